/** A chat client for the command line: `node chat.js HOST:PORT ACCESS_TOKEN MESSAGE`. Prints all messages until the connection closes. */

import { argv } from "node:process";

import { WebSocket } from "ws";

const [, , address, token, message] = argv;
const connection = new WebSocket(`ws://${address}/chat`, { headers: { Authorization: `Bearer ${token}` } });
connection.on("open", () => connection.send(message));
connection.on("message", (data) => console.log(String(data)));
// the server closes the connection when the session ends or the access token expires
connection.on("close", (code, reason) => console.log(`closed: ${code} ${reason}`));
