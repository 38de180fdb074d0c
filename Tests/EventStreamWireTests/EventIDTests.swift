// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import Testing

@Suite("Event ID")
struct EventIDTests {
    @Test(
        "an ID survives its wire form",
        arguments: [
            EventID.zero,
            EventID(milliseconds: 1_763_683_200_123, sequence: 1_048_576),
            EventID(milliseconds: .max, sequence: .max),
        ]
    )
    func roundTrip(id: EventID) throws {
        var writer = ByteWriter()
        id.append(to: &writer)
        #expect(String(decoding: writer.bytes, as: UTF8.self) == id.description)
        #expect(writer.count <= EventID.maximumTextBytes)
        #expect(try EventID.parse(id.description) == id)
    }

    @Test("milliseconds alone mean everything after that millisecond")
    func bareMilliseconds() throws {
        let cursor = try EventID.parse("1763683200123")
        #expect(cursor == EventID(milliseconds: 1_763_683_200_123, sequence: .max))
        #expect(cursor > EventID(milliseconds: 1_763_683_200_123, sequence: 7))
        #expect(cursor < EventID(milliseconds: 1_763_683_200_124, sequence: 0))
    }

    @Test("time decides the order, and the sequence where the time is equal")
    func order() {
        let early = EventID(milliseconds: 1, sequence: 9)
        let late = EventID(milliseconds: 2, sequence: 1)
        #expect(EventID.zero < early)
        #expect(early < late)
        #expect(late < EventID(milliseconds: 2, sequence: 2))
    }

    @Test(
        "what is no ID is refused",
        arguments: [
            ("", EventIDError.Code.malformed), ("-", .malformed), ("1-", .malformed),
            ("-1", .malformed), ("+1", .malformed), (" 1", .malformed), ("1 ", .malformed),
            ("1-2-3", .malformed), ("1--2", .malformed), ("1-+2", .malformed),
            ("1_000", .malformed), ("0x10", .malformed), ("1.5", .malformed), ("٣", .malformed),
            ("1-2\n", .malformed), ("\u{0}", .malformed), ("latest", .malformed),
            ("000000000000000000001", .tooLong), ("1-000000000000000000001", .tooLong),
            ("18446744073709551616", .tooLarge), ("1-99999999999999999999", .tooLarge),
            (String(repeating: "1", count: 100_000), .tooLong),
        ]
    )
    func refused(text: String, code: EventIDError.Code) {
        do throws(EventIDError) {
            let id = try EventID.parse(text)
            Issue.record("read \(id)")
        } catch {
            #expect(error.code == code)
            #expect(error.description.utf8.count < 400)
        }
    }

    @Test(
        "the error quotes what was given so that it cannot forge a line, and says what is accepted")
    func errorText() {
        do throws(EventIDError) {
            _ = try EventID.parse("7\r\nevent: forged\u{202e}")
            Issue.record("read an ID with a line break")
        } catch {
            #expect(error.given == #"7\u{d}\u{a}event: forged\u{202e}"#)
            #expect(error.description.contains("1763683200123-1048576"))
        }
    }
}
