/** The parser of server-sent events, with chunks of every size. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { MAX_EVENT_LENGTH, Parser } from "../../src/sse.js";

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
      assert.deepEqual(events, [{ type: "live", data: "{}", id: "7" }, { type: "x", data: "é\nb" }]);
    }
  }
});

test("event without id has no id", () => {
  const events = parsed("id: 1\ndata: a\n\ndata: b\n\nid: \0\ndata: c\n\n", 1000);
  assert.deepEqual(events.map(({ id }) => id), ["1", undefined, undefined]);
});

test("block without data is no event", () => {
  assert.deepEqual(parsed("event: live\nid: 1\n\ndata: {}\n\n", 5), [{ type: "message", data: "{}" }]);
  assert.deepEqual(parsed("data: never ended\n", 5), []);
});

test("event over the limit, or not UTF-8, throws", () => {
  for (const line of ["x".repeat(100), `data: ${"x".repeat(100)}\n`]) {
    assert.throws(() => parsed(line.repeat(MAX_EVENT_LENGTH / 100 + 1), 999), { name: "ProtocolError" });
  }
  assert.throws(() => [...new Parser().feed(Buffer.from([0x64, 0xff, 0x0a]))], { name: "ProtocolError" });
});
