// A worker that answers each message, and stays for the next one.
'use strict';

const { parentPort } = require('worker_threads');

parentPort.on('message', (message) => parentPort.postMessage(message));
