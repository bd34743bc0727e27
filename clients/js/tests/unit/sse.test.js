/** The parser of server-sent events, with chunks of every size. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { MAX_EVENT_BYTES, Parser } from "../../src/sse.js";

function parsed(text, size) {
  const [parser, bytes, events] = [new Parser(), Buffer.from(text), []];
  for (let at = 0; at < bytes.length; at += size) events.push(...parser.feed(bytes.subarray(at, at + size)));
  return events;
}

test("chunk size and line ending do not change events", () => {
  const text = "\ufeffevent: live\nid: 7\ndata: {}\n\n: hello\n\nevent:x\ndata:é\ndata: b\nretry: 1\nother\n\nx: y\n\n";
  for (const end of ["\n", "\r\n", "\r"]) {
    for (const size of [1, 2, 3, 7, 1000]) {
      // The parser reads a CR at the end only once it knows whether an LF follows.
      const events = parsed(text.replaceAll("\n", end) + (end === "\r" ? "\n" : ""), size);
      assert.deepEqual(events, [{ type: "live", data: "{}", id: "7" }, { type: "x", data: "é\nb", id: "7" }]);
    }
  }
});

test("event without id has the last event id", () => {
  const events = parsed("data: a\n\nid: 1\ndata: b\n\ndata: c\n\nid: \0\ndata: d\n\nid: 2\n\ndata: e\n\nid\ndata: f\n\n", 1000);
  assert.deepEqual(events.map(({ id }) => id), [undefined, "1", "1", "1", "2", ""]);
});

test("only one byte order mark, at the start, is ignored", () => {
  assert.deepEqual(parsed("\ufeffdata: x\n\n", 1), [{ type: "message", data: "x" }]);
  assert.deepEqual(parsed("\ufeff\ufeffdata: x\n\n", 1), []);
  assert.deepEqual(parsed("\n\ufeffdata: x\n\n", 1), []);
});

test("block without data is no event", () => {
  assert.deepEqual(parsed("event: live\nid: 1\n\ndata: {}\n\n", 5), [{ type: "message", data: "{}", id: "1" }]);
  assert.deepEqual(parsed("data: never ended\n", 5), []);
});

test("event over the limit, or not UTF-8, throws", () => {
  for (const line of ["x".repeat(100), `data: ${"x".repeat(100)}\n`]) {
    assert.throws(() => parsed(line.repeat(MAX_EVENT_BYTES / 100 + 1), 999), { name: "ProtocolError" });
  }
  // The limit counts bytes: an é has two.
  const longest = `data:${"é".repeat((MAX_EVENT_BYTES - "data:".length - 1) / 2)}`;
  assert.equal(parsed(`${longest}x\n\n`, 999).length, 1);
  for (const text of [`${longest}é\n\n`, `${longest}é`]) assert.throws(() => parsed(text, 999), { name: "ProtocolError" });
  assert.throws(() => [...new Parser().feed(Buffer.from([0x64, 0xff, 0x0a]))], { name: "ProtocolError" });
});
