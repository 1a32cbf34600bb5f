// A job of workerpool.
'use strict';

require('workerpool').worker({ double: (n) => n * 2 });
