const { Worker } = require('node:worker_threads');
const worker = new Worker('setInterval(() => {}, 3600000); require("node:worker_threads").parentPort.postMessage("ready")', { eval: true });
worker.on('message', () => console.log('ready'));
process.stdin.on('end', () => process.exit(0)).resume();
