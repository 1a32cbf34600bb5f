// NAME leak|fixed|healthy: an HTTP server that uses workers wrongly or rightly, once a request.
'use strict';

const http = require('http');
const path = require('path');
const { Worker } = require('worker_threads');

const piscina = require('piscina');
const workerpool = require('workerpool');

const file = (name) => path.join(__dirname, name);

// A worker of Node's own, which stays until it is terminated, since it listens.
function ask(worker) {
  return new Promise((resolve, reject) => {
    worker.once('message', () => resolve(worker));
    worker.once('error', reject);
    worker.postMessage('hello');
  });
}

const startWorker = () => ask(new Worker(file('listens.js')));
const startPiscina = () => new piscina({ filename: file('doubles.js'), minThreads: 2, maxThreads: 2 });
const startPool = () => workerpool.pool(file('double.js'), { minWorkers: 'max', maxWorkers: 2, workerType: 'thread' });

const kept = [];
let shared;

const cases = {
  'worker leak': async () => kept.push(await startWorker()),
  'worker fixed': async () => (await startWorker()).terminate(),
  'worker-shared healthy': async () => ask((shared = shared || new Worker(file('listens.js')))),
  'piscina leak': async () => {
    const pool = startPiscina();
    kept.push(pool);
    await pool.run(1);
  },
  'piscina fixed': async () => {
    const pool = startPiscina();
    await pool.run(1);
    await pool.destroy();
  },
  'piscina-shared healthy': async () => (shared = shared || startPiscina()).run(1),
  'workerpool leak': async () => {
    const pool = startPool();
    kept.push(pool);
    await pool.exec('double', [1]);
  },
  'workerpool fixed': async () => {
    const pool = startPool();
    await pool.exec('double', [1]);
    await pool.terminate();
  },
};

// Does not outlive its test for long.
setTimeout(() => process.exit(9), 900000).unref();
const request = cases[process.argv.slice(2).join(' ')];
if (!request) throw new Error('no such case');
const server = http.createServer((_, response) => {
  const fail = (error) => {
    response.statusCode = 500;
    response.end(String(error.stack));
  };
  Promise.resolve(request()).then(() => response.end('ok'), fail);
});
server.listen(0, '127.0.0.1', () => console.log('listening on 127.0.0.1:' + server.address().port));
