// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// One broker as a client of ours sees it.
package struct KafkaBroker: Sendable, Equatable, CustomStringConvertible {
    /// -1 while only its address is known.
    package let id: Int32
    /// `host:port`.
    package let address: String
    /// librdkafka's word, such as `UP`, `CONNECT` or `DOWN`.
    package let state: String

    package init(id: Int32, address: String, state: String) {
        self.id = id
        self.address = address
        self.state = state
    }

    /// True while requests can be sent to it.
    package var isUp: Bool { state == "UP" || state == "UPDATE" }

    package var description: String { id < 0 ? address : "\(id) (\(address))" }
}

extension KafkaBroker {
    /// The brokers of librdkafka's statistics, by number: those that the cluster has named, or,
    /// before it has named any, those of the configuration. Empty where the text is none.
    ///
    /// Source: librdkafka's STATISTICS.md.
    static func list(inStatistics text: [UInt8]) -> [KafkaBroker] {
        var scan = StatisticsScan(text)
        var found: [(broker: KafkaBroker, isConfigured: Bool)] = []
        scan.members { name, scan in
            guard name == "brokers" else { return scan.skip() }
            scan.members { _, scan in
                if let broker = Self.read(&scan) { found.append(broker) }
            }
        }
        let known = found.filter { $0.broker.id >= 0 }
        return (known.isEmpty ? found.filter(\.isConfigured) : known).map(\.broker)
            .sorted { ($0.id, $0.address) < ($1.id, $1.address) }
    }

    private static func read(_ scan: inout StatisticsScan) -> (KafkaBroker, Bool)? {
        var texts: [String: String] = [:]
        scan.members { name, scan in
            switch name {
            case "nodeid", "nodename", "name", "source", "state": texts[name] = scan.scalar()
            default: scan.skip()
            }
        }
        guard let state = texts["state"], let id = texts["nodeid"].flatMap({ Int32($0) }) else {
            return nil
        }
        // The group's coordinator is one of the others under another name.
        guard texts["source"] != "internal", texts["source"] != "logical" else { return nil }
        var address = texts["nodename"] ?? ""
        if address.isEmpty {
            address = texts["name"].map { String($0.prefix { $0 != "/" }) } ?? ""
        }
        return (
            KafkaBroker(id: id, address: address, state: state), texts["source"] == "configured"
        )
    }
}

/// Walks through librdkafka's statistics, which are JSON and can be large: only what is asked for
/// is taken out. What is no JSON ends the walk.
private struct StatisticsScan {
    private let bytes: [UInt8]
    private var place = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Hands each member of the object that follows to `body`, which has to take or skip its value.
    mutating func members(_ body: (String, inout StatisticsScan) -> Void) {
        guard take("{") else { return skip() }
        while place < bytes.count, !take("}") {
            guard let name = text(), take(":") else { return end() }
            body(name, &self)
            _ = take(",")
        }
    }

    /// A text or a number; `nil` for anything else, which is skipped.
    mutating func scalar() -> String? {
        skipBlanks()
        guard place < bytes.count else { return nil }
        if bytes[place] == UInt8(ascii: "\"") { return text() }
        let start = place
        skip()
        let piece = bytes[start..<place]
        return piece.first == UInt8(ascii: "{") || piece.first == UInt8(ascii: "[")
            ? nil : String(decoding: piece, as: UTF8.self)
    }

    /// Passes over one value.
    mutating func skip() {
        var depth = 0
        repeat {
            skipBlanks()
            guard place < bytes.count else { return }
            switch bytes[place] {
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
                place += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                guard depth > 0 else { return }
                depth -= 1
                place += 1
            case UInt8(ascii: ","), UInt8(ascii: ":"):
                guard depth > 0 else { return }
                place += 1
            case UInt8(ascii: "\""): _ = text()
            default: skipWord()
            }
        } while depth > 0
    }

    private mutating func skipWord() {
        while place < bytes.count, !Self.marks.contains(bytes[place]) { place += 1 }
    }

    private static let marks = Array(",:{}[]\" \t\r\n".utf8)

    /// Escapes stand as they are: no name that is looked for has any.
    private mutating func text() -> String? {
        guard take("\"") else { return nil }
        let start = place
        while place < bytes.count, bytes[place] != UInt8(ascii: "\"") {
            place += bytes[place] == UInt8(ascii: "\\") ? 2 : 1
        }
        guard place < bytes.count else {
            end()
            return nil
        }
        defer { place += 1 }
        return String(decoding: bytes[start..<place], as: UTF8.self)
    }

    private mutating func take(_ mark: Unicode.Scalar) -> Bool {
        skipBlanks()
        guard place < bytes.count, bytes[place] == UInt8(ascii: mark) else { return false }
        place += 1
        return true
    }

    private mutating func skipBlanks() {
        while place < bytes.count, bytes[place] <= UInt8(ascii: " ") { place += 1 }
    }

    private mutating func end() { place = bytes.count }
}
