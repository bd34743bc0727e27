/** A chat client for the command line: `node chat.js HOST:PORT ACCESS_TOKEN MESSAGE`. Prints all messages until the chat closes. */

import { argv } from "node:process";

import { WebSocket } from "ws";

const [, , address, token, message] = argv;
const chat = new WebSocket(`ws://${address}/chat`, { headers: { Authorization: `Bearer ${token}` } });
chat.on("open", () => chat.send(message));
chat.on("message", (data) => console.log(String(data)));
chat.on("close", (code, reason) => console.log(`closed: ${code} ${reason}`));
