// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import Testing

/// The messages that `stream` gives when it arrives in pieces of `pieceBytes`.
private func parse(
    _ stream: [UInt8],
    pieceBytes: Int = .max,
    limit: Int = 1_000
) throws(EventStreamError) -> (messages: [EventStreamMessage], parser: EventStreamParser) {
    var parser = EventStreamParser(maximumEventBytes: limit)
    var messages: [EventStreamMessage] = []
    var start = 0
    while start < stream.count {
        let end = start + min(pieceBytes, stream.count - start)
        messages += try parser.messages(in: stream.span.extracting(start..<end))
        start = end
    }
    return (messages, parser)
}

private func data(_ text: String) throws -> [String] {
    try parse(Array(text.utf8)).messages.map(\.dataText)
}

@Suite("Event stream encoder")
struct EventStreamEncoderTests {
    private let id = EventID(milliseconds: 5, sequence: 6)

    private func encode(name: String?, data: String) -> String {
        var writer = ByteWriter()
        EventStreamEncoder.append(id: id, name: name, data: data, to: &writer)
        return String(decoding: writer.bytes, as: UTF8.self)
    }

    @Test("an event is an ID, a name, its data and a blank line")
    func format() {
        #expect(encode(name: "alert", data: "{}") == "id: 5-6\nevent: alert\ndata: {}\n\n")
        #expect(encode(name: nil, data: "") == "id: 5-6\ndata: \n\n")
        var writer = ByteWriter()
        EventStreamEncoder.append(id: nil, name: "gap", data: "x", to: &writer)
        #expect(writer.bytes == Array("event: gap\ndata: x\n\n".utf8))
    }

    @Test("each kind of line break in the data starts another data line")
    func lineBreaks() {
        #expect(
            encode(name: nil, data: "a\nb\rc\r\nd\n\re\n")
                == "id: 5-6\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \ndata: e\ndata: \n\n"
        )
    }

    @Test("neither a name nor a comment can start a field")
    func injection() throws {
        #expect(
            encode(name: "a\nid: 9-9\r\ndata: forged", data: "true")
                == "id: 5-6\nevent: a id: 9-9  data: forged\ndata: true\n\n"
        )
        var writer = ByteWriter()
        EventStreamEncoder.appendComment("a\ndata: forged\n\n\rid: 1", to: &writer)
        let parsed = try parse(writer.bytes)
        #expect(parsed.messages.isEmpty)
        #expect(parsed.parser.lastEventID.isEmpty)
    }

    @Test("a delay is written in milliseconds and never negative")
    func retry() throws {
        var writer = ByteWriter()
        EventStreamEncoder.appendRetry(.seconds(2) + .microseconds(500_900), to: &writer)
        #expect(writer.bytes == Array("retry: 2500\n\n".utf8))
        #expect(try parse(writer.bytes).parser.retry == .milliseconds(2_500))
        writer.removeAll()
        EventStreamEncoder.appendRetry(.seconds(-3), to: &writer)
        EventStreamEncoder.appendRetry(.seconds(Int64.min), to: &writer)
        EventStreamEncoder.appendRetry(.seconds(Int64.max), to: &writer)
        #expect(
            writer.bytes == Array("retry: 0\n\nretry: 0\n\nretry: \(Int64.max)\n\n".utf8)
        )
    }

    @Test("what was encoded is what a client gets, wherever the chunks end")
    func roundTrip() throws {
        let texts = [
            "", "\n", "\r\n\r", " blank", ":colon", "data: x", "é🙂\u{0}", "a\rb", "id: 4",
        ]
        var writer = ByteWriter()
        for (index, text) in texts.enumerated() {
            EventStreamEncoder.append(
                id: EventID(milliseconds: 1, sequence: UInt64(index)),
                name: "n\(index)",
                data: text,
                to: &writer
            )
            EventStreamEncoder.appendComment("alive", to: &writer)
        }
        for pieceBytes in [1, 2, 3, 7, .max] {
            let messages = try parse(writer.bytes, pieceBytes: pieceBytes).messages
            #expect(messages.map(\.event) == texts.indices.map { "n\($0)" })
            #expect(messages.map(\.lastEventID) == texts.indices.map { "1-\($0)" })
            #expect(try messages.map { try $0.cursor().sequence } == texts.indices.map(UInt64.init))
            let joined = [
                "", "\n", "\n\n", " blank", ":colon", "data: x", "é🙂\u{0}", "a\nb", "id: 4",
            ]
            #expect(messages.map(\.dataText) == joined)
        }
    }
}

@Suite("Event stream parser")
struct EventStreamParserTests {
    @Test("the examples of the standard give what it says")
    func standardExamples() throws {
        #expect(try data("data: YHOO\ndata: +2\ndata: 10\n\n") == ["YHOO\n+2\n10"])
        let four =
            ": test stream\n\ndata: first event\nid: 1\n\n"
            + "data:second event\nid\n\ndata:  third event\n\n"
        let parsed = try parse(Array(four.utf8))
        #expect(parsed.messages.map(\.dataText) == ["first event", "second event", " third event"])
        #expect(parsed.messages.map(\.lastEventID) == ["1", "", ""])
        #expect(try data("data\n\ndata\ndata\n\ndata:") == ["", "\n"])
        #expect(try data("data:test\n\ndata: test\n\n") == ["test", "test"])
    }

    @Test("an event without data is not dispatched, but its ID counts and its name does not")
    func emptyData() throws {
        let parsed = try parse(Array("id: 3\nevent: lost\n\ndata: x\n\n".utf8))
        #expect(parsed.messages.map(\.event) == ["message"])
        #expect(parsed.messages.map(\.lastEventID) == ["3"])
    }

    @Test("an event that the end of the stream cuts off is dropped, and its ID with it")
    func cutOff() throws {
        let parsed = try parse(Array("id: 1\ndata: a\n\nid: 2\ndata: b\n".utf8))
        #expect(parsed.messages.map(\.dataText) == ["a"])
        #expect(parsed.parser.lastEventID == Array("1".utf8))
    }

    @Test("an ID with NUL, a retry with more than digits and an unknown field are ignored")
    func ignoredFields() throws {
        let parsed = try parse(
            Array(
                "id: 1\nid: 2\u{0}\nretry: 5\nretry: 6s\nretry: -1\nretry\nDATA: x\ndata: y\n\n"
                    .utf8)
        )
        #expect(parsed.messages.map(\.lastEventID) == ["1"])
        #expect(parsed.messages.map(\.dataText) == ["y"])
        #expect(parsed.parser.retry == .milliseconds(5))
    }

    @Test("a byte order mark is dropped once, at the start only")
    func byteOrderMark() throws {
        let mark: [UInt8] = [0xef, 0xbb, 0xbf]
        let stream = mark + Array("data: a\n\n".utf8) + mark + Array("data: b\n\n".utf8)
        for pieceBytes in [1, 2, .max] {
            #expect(try parse(stream, pieceBytes: pieceBytes).messages.map(\.dataText) == ["a"])
        }
        #expect(try parse(mark + mark + Array("data: a\n\n".utf8)).messages.isEmpty)
    }

    @Test("CR, LF and CRLF end a line, also when a chunk ends between CR and LF")
    func lineEndings() throws {
        let stream = Array("data: a\r\rdata: b\r\n\r\ndata: c\n\ndata: d\r\n\n".utf8)
        for pieceBytes in 1...stream.count {
            let messages = try parse(stream, pieceBytes: pieceBytes).messages
            #expect(messages.map(\.dataText) == ["a", "b", "c", "d"])
        }
    }

    @Test("an event dispatched by a lone CR does not wait for the byte after it")
    func promptCarriageReturn() throws {
        #expect(try data("data: a\r\r") == ["a"])
    }

    @Test("a continued stream keeps the cursor it began with")
    func continued() throws {
        var parser = EventStreamParser(lastEventID: Array("9-9".utf8))
        let messages = try parser.messages(in: Array("data: a\n\n".utf8).span)
        #expect(messages.map(\.lastEventID) == ["9-9"])
    }

    @Test(
        "an event larger than the limit is refused, in one line, in many, as a comment or a name",
        arguments: [
            "data: " + String(repeating: "x", count: 100),
            String(repeating: "data: 123456789\n", count: 11) + "\n",
            ":" + String(repeating: "x", count: 100) + "\n",
            "event: " + String(repeating: "x", count: 100) + "\n",
            String(repeating: "data\n", count: 101),
        ]
    )
    func tooLarge(stream: String) {
        for pieceBytes in [1, 10, .max] {
            do throws(EventStreamError) {
                _ = try parse(Array(stream.utf8), pieceBytes: pieceBytes, limit: 100)
                Issue.record("read all of it")
            } catch {
                #expect(error.code == .eventTooLarge)
            }
        }
    }

    @Test("events below the limit go on for ever")
    func manyEvents() throws {
        let stream = String(repeating: "data: 0123456789\nid: 1\n\n", count: 1_000)
        #expect(try parse(Array(stream.utf8), pieceBytes: 13, limit: 40).messages.count == 1_000)
    }

    @Test("random streams give the same messages whole and in pieces")
    func randomStreams() throws {
        let alphabet: [[UInt8]] =
            [
                "data", "id", "event", "retry", ":", " ", "\r", "\n", "\r\n", "\n\n", "1", "x\u{0}",
            ].map { Array($0.utf8) } + [[0xef, 0xbb, 0xbf], [0xff]]
        var state: UInt64 = 0x9e37_79b9_7f4a_7c15
        var dispatched = 0
        for _ in 0..<2_000 {
            var stream: [UInt8] = []
            for _ in 0..<40 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                stream += alphabet[Int((state >> 33) % UInt64(alphabet.count))]
            }
            let whole = try parse(stream)
            dispatched += whole.messages.count
            for pieceBytes in [1, 3] {
                let pieces = try parse(stream, pieceBytes: pieceBytes)
                #expect(pieces.messages == whole.messages)
                #expect(pieces.parser.lastEventID == whole.parser.lastEventID)
                #expect(pieces.parser.retry == whole.parser.retry)
            }
        }
        #expect(dispatched > 100)
    }
}
