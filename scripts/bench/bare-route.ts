// The least that express does for an answer: `bare-route.ts <path> <content type> <body>` prints the port that it answers on.
import express from 'express';

const [path = '', type = '', body = ''] = process.argv.slice(2);
const answer = Buffer.from(body);
const app = express();
app.get(path, (_request, response) => {
  response.type(type).send(answer);
});
const server = app.listen(0, '127.0.0.1', () => {
  const address = server.address();
  console.log(typeof address === 'object' ? address?.port : address);
});
