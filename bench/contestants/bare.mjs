// A server that answers everything at once and reads nothing: what a flood takes by being on the same processors.
import { createServer } from 'node:http';

const server = createServer({ headersTimeout: 15_000, connectionsCheckingInterval: 5000 });
server.on('request', (_request, response) => {
  response.writeHead(200, { 'content-type': 'application/json', connection: 'close' });
  response.end('{"data":{}}');
});
server.on('upgrade', (_request, socket) => {
  socket.on('error', () => socket.destroy());
  socket.end('HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\n\r\n');
});
server.listen(0, '127.0.0.1', () =>
  console.log(`listening http://127.0.0.1:${server.address().port}/graphql`),
);
process.on('SIGTERM', () => process.exit(0));
