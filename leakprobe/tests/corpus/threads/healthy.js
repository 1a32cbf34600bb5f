// A healthy server in Node: `http healthy`, and load ADDR N [CONCURRENCY]. Its thread pool fills when it first reads files.
'use strict';

const fs = require('fs');
const http = require('http');

function serve() {
  // Does not outlive its test for long.
  setTimeout(() => process.exit(9), 900000).unref();
  const server = http.createServer((request, response) => {
    fs.readFile(__filename, (error, text) => {
      response.statusCode = error ? 500 : 200;
      response.end(text);
    });
  });
  server.listen(0, '127.0.0.1', () => console.log('listening on 127.0.0.1:' + server.address().port));
}

function get(address, agent) {
  return new Promise((resolve, reject) => {
    const request = http.get('http://' + address + '/', { agent }, (response) => {
      response.resume();
      response.on('end', () => (response.statusCode === 200 ? resolve() : reject(new Error('a request failed'))));
    });
    request.on('error', reject);
  });
}

async function load(address, requests, connections = 4) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: Number(connections) });
  await Promise.all(Array.from({ length: Number(requests) }, () => get(address, agent)));
  agent.destroy();
  console.log(requests + ' requests');
}

const [name, ...rest] = process.argv.slice(2);
if (name === 'load') load(...rest);
else if (name === 'http' && rest[0] === 'healthy') serve();
else throw new Error('no such case: ' + name);
