// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import EventStreamWire
import Glibc
import JSONFields

/// Writes events as lines, for people or for programs.
///
/// Threads: one.
final class EventPrinter {
    /// The event by which a server says that something is missing.
    static let gapEvent = "gap"

    /// True for the message by which a server says that the stream has come to the end that was
    /// asked for. An event that only has the name has an ID of its own.
    static func isEnd(_ message: EventStreamMessage) -> Bool {
        message.event == "end" && message.lastEventID.hasSuffix("-\(UInt64.max)")
    }

    private let style: TerminalStyle
    private let isJSON: Bool
    private let extractor: JSONFieldExtractor
    private var fields: FieldTable
    private var compact = ByteWriter()

    init(style: TerminalStyle, isJSON: Bool) throws(ProgramError) {
        self.style = style
        self.isJSON = isJSON
        do {
            let paths = try JSONFieldPaths(["from", "to", "reason", "lost", "until", "count"])
            extractor = try JSONFieldExtractor(
                paths: paths, eventBytesMax: EventStreamParser.defaultMaximumEventBytes)
            fields = FieldTable(for: paths)
        } catch { throw ProgramError(.transferFailed, error.detail) }
    }

    /// Appends the event's line to `output`.
    ///
    /// - Parameter received: Milliseconds since 1970.
    func append(_ message: EventStreamMessage, received: UInt64, to output: inout ByteWriter) {
        if isJSON {
            appendJSON(message, received, to: &output)
        } else if message.event == Self.gapEvent {
            output.append("\(clock(received)) \(style(.alarm, "GAP: \(gapText(message))"))\n")
        } else if Self.isEnd(message) {
            output.append("\(clock(received)) \(style(.yellow, "END: \(endText(message))"))\n")
        } else {
            output.append(style(.dim, clock(received)) + " ")
            output.append(style(.cyan, PeerText.display(message.event)) + " ")
            let id = message.lastEventID
            output.append(style(.yellow, id.isEmpty ? "-" : PeerText.display(id)) + " ")
            appendData(message.data, to: &output)
            output.append(UInt8(ascii: "\n"))
        }
    }

    /// What a gap says, in a sentence.
    func gapText(_ message: EventStreamMessage) -> String {
        fields.removeAll()
        guard extractor.extract(message.data.span, into: &fields) == .object else {
            return "events are missing here: \(PeerText.display(message.dataText))"
        }
        func field(_ column: Int) -> String {
            guard case .text(let range) = fields.first(row: 0, column: column) else { return "?" }
            return PeerText.display(fields.string(of: range))
        }
        let text = "events are missing from \(field(0)) to \(field(1)): \(field(2))"
        guard let lost = fields.largestNumber(row: 0, column: 3), lost >= 1, lost < 1e15 else {
            return text
        }
        return "\(text), at most \(Tabulation.count(Int(lost), "event"))"
    }

    /// What an end says, in a sentence.
    func endText(_ message: EventStreamMessage) -> String {
        fields.removeAll()
        guard extractor.extract(message.data.span, into: &fields) == .object,
            case .text(let until) = fields.first(row: 0, column: 4),
            let count = fields.largestNumber(row: 0, column: 5), count >= 0, count < 1e15
        else { return "the stream is over: \(PeerText.display(message.dataText))" }
        return "the stream is over before \(PeerText.display(fields.string(of: until))), after "
            + Tabulation.count(Int(count), "event")
    }

    // MARK: - For programs

    /// One JSON object a line: the data as it is where it is JSON, else as a string.
    private func appendJSON(
        _ message: EventStreamMessage, _ received: UInt64, to output: inout ByteWriter
    ) {
        let id = message.lastEventID
        var json = JSONText(reserving: message.data.count + 128)
        json.object {
            $0.field("id", id.isEmpty ? nil : id)
            $0.field("event", message.event)
            if isValidJSON(message.data) {
                compact.removeAll()
                CompactJSON.append(message.data, to: &compact)
                $0.field("data", json: compact.bytes)
            } else {
                $0.field("data", message.dataText)
            }
            $0.field("received_ms", received)
        }
        output.append(json.bytes)
        output.append(UInt8(ascii: "\n"))
    }

    private func isValidJSON(_ data: [UInt8]) -> Bool {
        switch extractor.validate(data.span) {
        case .object, .notAnObject: true
        case .malformed, .tooLarge, .invalidUTF8: false
        }
    }

    // MARK: - For people

    /// Appends the data on one line, with nothing in it that a terminal would obey.
    private func appendData(_ data: [UInt8], to output: inout ByteWriter) {
        var shown = data
        if isValidJSON(data) {
            compact.removeAll()
            CompactJSON.append(data, to: &compact)
            shown = compact.bytes
        }
        if shown.allSatisfy({ $0 >= 0x20 && $0 < 0x7f }) {
            output.append(shown)
        } else {
            output.append(PeerText.display(shown.span, limit: shown.count))
        }
    }

    /// `HH:MM:SS.mmm` in the time zone of the terminal.
    private func clock(_ milliseconds: UInt64) -> String {
        var seconds = time_t(clamping: milliseconds / 1_000)
        var parts = unsafe tm()
        unsafe localtime_r(&seconds, &parts)
        func padded(_ number: Int, _ width: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        let (hour, minute) = unsafe (Int(parts.tm_hour), Int(parts.tm_min))
        let second = unsafe Int(parts.tm_sec)
        return "\(padded(hour, 2)):\(padded(minute, 2)):\(padded(second, 2))"
            + ".\(padded(Int(milliseconds % 1_000), 3))"
    }
}
