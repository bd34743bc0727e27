/** The parser of server-sent events, with chunks of every size. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { MAX_EVENT_BYTES, Parser } from "../../src/sse.js";

const LARGE_CHUNK = 999;

function parseInChunks(text, chunkSize) {
  const [parser, bytes, events] = [new Parser(), Buffer.from(text), []];
  for (let at = 0; at < bytes.length; at += chunkSize) events.push(...parser.feed(bytes.subarray(at, at + chunkSize)));
  return events;
}

test("chunk size and line ending do not change events", () => {
  // The comment, and the last block, which has only an unknown field, are no events. The fields `retry` and `other` are ignored.
  const blocks = ["\ufeffevent: live\nid: 7\ndata: {}", ": hello", "event:x\ndata:é\ndata: b\nretry: 1\nother", "x: y"];
  const text = blocks.map((block) => `${block}\n\n`).join("");
  for (const end of ["\n", "\r\n", "\r"]) {
    for (const chunkSize of [1, 2, 3, 7, 1000]) {
      // After a CR, the parser waits for the next byte: an LF belongs to the same line ending.
      const last = end === "\r" ? "\n" : "";
      const events = parseInChunks(text.replaceAll("\n", end) + last, chunkSize);
      assert.deepEqual(events, [{ type: "live", data: "{}", id: "7" }, { type: "x", data: "é\nb", id: "7" }]);
    }
  }
});

test("event without id has the last event id", () => {
  // An id with a NUL is ignored, a block without data sets the id for the next event, and an `id` without a value clears it.
  const text = "data: a\n\nid: 1\ndata: b\n\ndata: c\n\nid: \0\ndata: d\n\nid: 2\n\ndata: e\n\nid\ndata: f\n\n";
  const events = parseInChunks(text, LARGE_CHUNK);
  assert.deepEqual(events.map(({ id }) => id), [undefined, "1", "1", "1", "2", ""]);
});

test("only one byte order mark, at the start, is ignored", () => {
  assert.deepEqual(parseInChunks("\ufeffdata: x\n\n", 1), [{ type: "message", data: "x" }]);
  // Any other byte order mark is part of the name of an unknown field.
  assert.deepEqual(parseInChunks("\ufeff\ufeffdata: x\n\n", 1), []);
  assert.deepEqual(parseInChunks("\n\ufeffdata: x\n\n", 1), []);
});

test("block without data is no event", () => {
  assert.deepEqual(parseInChunks("event: live\nid: 1\n\ndata: {}\n\n", 5), [{ type: "message", data: "{}", id: "1" }]);
  assert.deepEqual(parseInChunks("data: never ended\n", 5), []);
});

test("event over the limit, or not UTF-8, throws", () => {
  // one line without an end, and many lines
  for (const part of ["x".repeat(100), `data: ${"x".repeat(100)}\n`]) {
    const tooLong = part.repeat(Math.ceil(MAX_EVENT_BYTES / 100));
    assert.throws(() => parseInChunks(tooLong, LARGE_CHUNK), { name: "ProtocolError" });
  }
  // The limit counts bytes, and an é has two: `almostFull` has one byte less than the limit.
  const almostFull = `data:${"é".repeat((MAX_EVENT_BYTES - "data:".length - 1) / 2)}`;
  assert.equal(parseInChunks(`${almostFull}x\n\n`, LARGE_CHUNK).length, 1);
  for (const text of [`${almostFull}é\n\n`, `${almostFull}é`]) assert.throws(() => parseInChunks(text, LARGE_CHUNK), { name: "ProtocolError" });
  // No UTF-8 text contains the byte 0xff. The generator parses as its events are read.
  assert.throws(() => [...new Parser().feed(Buffer.from([0xff]))], { name: "ProtocolError" });
});
