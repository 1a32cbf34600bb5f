// A worker that is blocked under three functions of its own; ends when stdin is closed.
const { Worker, isMainThread, parentPort } = require('node:worker_threads');

if (isMainThread) {
  const worker = new Worker(__filename);
  worker.on('message', (line) => console.log(line));
  process.stdin.on('end', () => process.exit(0)).resume();
} else {
  const lock = new Int32Array(new SharedArrayBuffer(4));
  const wait = Atomics.wait;
  Error.stackTraceLimit = 100;

  // What the runtime says of its stack, a line a function: its name and its file.
  function stack() {
    const before = Error.prepareStackTrace;
    Error.prepareStackTrace = (_, sites) => sites.map((site) => `${site.getFunctionName() ?? ''} ${site.getFileName()}`);
    const lines = new Error().stack.slice(1);
    Error.prepareStackTrace = before;
    return lines;
  }

  function inner(warm) {
    if (!warm) {
      for (const line of stack()) parentPort.postMessage(`stack ${line}`);
      parentPort.postMessage('ready');
      wait(lock, 0, 0);
    }
    return lock[0];
  }
  function middle(warm) {
    return inner(warm) + 1;
  }
  function outer(warm) {
    return middle(warm) + 1;
  }
  for (let n = 0; n < 3; n++) outer(true);
  outer(false);
}
