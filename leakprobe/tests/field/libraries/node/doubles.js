// A job of piscina.
'use strict';

module.exports = (n) => n * 2;
