// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// What a text must look like.
package struct TextRule: Sendable {
    /// One word or two: `text`, `URL`.
    package let typeName: String
    package let accepted: String
    /// Why a text is not taken, or `nil` where it is.
    let refuse: @Sendable (String) -> String?

    init(
        _ accepted: String,
        typeName: String = "text",
        refuse: @escaping @Sendable (String) -> String?
    ) {
        self.typeName = typeName
        self.accepted = accepted
        self.refuse = refuse
    }
}

extension TextRule {
    /// What no text may hold, whatever its rule: it ends up in logs, headers and C strings.
    static func refuseUnprintable(_ text: String) -> String? {
        guard text.unicodeScalars.allSatisfy(Excerpt.isHarmless) else {
            return "holds a control character, a line end or a direction mark"
        }
        return nil
    }

    static func refuseSize(_ text: String, _ sizes: ClosedRange<Int>) -> String? {
        if text.isEmpty && sizes.lowerBound > 0 { return "is empty" }
        return text.utf8.count <= sizes.upperBound
            ? nil : "is longer than \(sizes.upperBound) bytes"
    }

    static func printable(_ sizes: ClosedRange<Int>) -> TextRule {
        TextRule("printable text of \(sizes.lowerBound) to \(sizes.upperBound) bytes") {
            refuseSize($0, sizes) ?? refuseUnprintable($0)
        }
    }

    /// Text of `first` and then of `others`, ASCII letters and digits always included.
    private static func name(
        _ accepted: String,
        bytes: ClosedRange<Int>,
        first: @escaping @Sendable (UInt8) -> Bool,
        others: @escaping @Sendable (UInt8) -> Bool
    ) -> TextRule {
        TextRule(accepted) { text in
            if let reason = refuseSize(text, bytes) { return reason }
            guard let start = text.utf8.first, first(start) else { return "begins wrongly" }
            return text.utf8.dropFirst().allSatisfy(others) ? nil : "holds an illegal character"
        }
    }

    static let nodeID = name(
        "1 to 128 of A-Z a-z 0-9 . _ -, beginning with a letter or digit", bytes: 1...128,
        first: \.isASCIILetterOrDigit,
        others: { $0.isASCIILetterOrDigit || $0.isOne(of: "._-") })

    static let channelName = name(
        "1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit", bytes: 1...64,
        first: { $0.isASCIILowercase || $0.isASCIIDigit },
        others: { $0.isASCIILowercase || $0.isASCIIDigit || $0.isOne(of: "._-") })

    /// Kafka's own rule (`org.apache.kafka.common.internals.Topic`).
    static let topic: TextRule = {
        let rule = name(
            "1 to 249 of A-Z a-z 0-9 . _ -, and not . or ..",
            bytes: 1...ConfigurationLimits.topicBytes,
            first: { $0.isASCIILetterOrDigit || $0.isOne(of: "._-") },
            others: { $0.isASCIILetterOrDigit || $0.isOne(of: "._-") })
        return TextRule(rule.accepted) { text in
            text == "." || text == ".." ? "is reserved by Kafka" : rule.refuse(text)
        }
    }()

    static let topicPattern: TextRule = {
        let rule = name(
            "a topic name in which * stands for any characters, with at most "
                + "\(ConfigurationLimits.patternStars) stars",
            bytes: 1...ConfigurationLimits.topicBytes,
            first: { $0.isASCIILetterOrDigit || $0.isOne(of: "._-*") },
            others: { $0.isASCIILetterOrDigit || $0.isOne(of: "._-*") })
        return TextRule(rule.accepted) { text in
            let stars = text.utf8.count { $0 == UInt8(ascii: "*") }
            guard stars <= ConfigurationLimits.patternStars else { return "has \(stars) stars" }
            return rule.refuse(text)
        }
    }()

    /// An SSE field ends at CR or LF (HTML Living Standard, 9.2.5).
    static let eventName = TextRule(
        "printable text of 1 to \(ConfigurationLimits.eventNameBytes) bytes, without a line end"
    ) { text in
        refuseSize(text, 1...ConfigurationLimits.eventNameBytes) ?? refuseUnprintable(text)
    }

    static let reservedParameters = [
        "last_event_id", "channels", "since", "until", "history", "speed", "metadata", "retry",
        "events_per_second",
    ]

    static let parameter: TextRule = {
        let rule = name(
            "1 to 64 of a-z 0-9 _, beginning with a letter, and none of "
                + reservedParameters.joined(separator: ", "),
            bytes: 1...64,
            first: \.isASCIILowercase,
            others: { $0.isASCIILowercase || $0.isASCIIDigit || $0 == UInt8(ascii: "_") })
        return TextRule(rule.accepted) { text in
            reservedParameters.contains(text)
                ? "is a parameter that Rivulet itself understands" : rule.refuse(text)
        }
    }()

    static let fieldPath = TextRule(
        "names of JSON fields joined by dots, 1 to \(ConfigurationLimits.fieldSegments) of them"
    ) { text in
        if let reason = refuseSize(text, 1...ConfigurationLimits.fieldPathBytes) { return reason }
        let segments = text.split(separator: ".", omittingEmptySubsequences: false)
        guard segments.count <= ConfigurationLimits.fieldSegments else {
            return "has \(segments.count) segments"
        }
        guard !segments.contains(where: \.isEmpty) else { return "has an empty segment" }
        return refuseUnprintable(text)
    }

    /// Braces would choose another hash slot than the one all history keys share.
    static let keyPrefix = name(
        "1 to 64 of A-Z a-z 0-9 . _ : -, beginning with a letter or digit", bytes: 1...64,
        first: \.isASCIILetterOrDigit,
        others: { $0.isASCIILetterOrDigit || $0.isOne(of: "._:-") })

    static let propertyName = name(
        "a property of librdkafka such as client.id", bytes: 1...128,
        first: \.isASCIILetterOrDigit,
        others: { $0.isASCIILetterOrDigit || $0.isOne(of: "._-") })

    static let listenAddress = TextRule(
        "a numeric address and a port, such as 0.0.0.0:8080 or [::]:8080", typeName: "address"
    ) { text in
        HostAndPort(text, ports: 0...65_535).map { $0.isNumeric ? nil : "is not numeric" }
            ?? "is no address and port"
    }

    static let address = TextRule("a numeric address, such as 10.0.0.2 or fd00::2") { text in
        let host = text.contains(":") ? "[\(text)]" : text
        return HostAndPort("\(host):1", ports: 1...1).map { $0.isNumeric ? nil : "is not numeric" }
            ?? "is no address"
    }

    static let hostAndPort = TextRule("a host and a port, such as kafka-1:9092") { text in
        HostAndPort(text, ports: 1...65_535) == nil ? "is no host and port" : nil
    }

    /// Whether there is such a file is found out by whoever opens it.
    static let filePath = TextRule("the path of a file, of 1 to 4096 bytes", typeName: "path") {
        refuseSize($0, 1...4096) ?? refuseUnprintable($0)
    }

    static let redisURL = TextRule(
        "redis://host:port/database, rediss:// for TLS, or unix:///path?db=database",
        typeName: "URL"
    ) { text in
        do throws(RedisEndpoint.Refusal) {
            _ = try RedisEndpoint(url: text)
            return nil
        } catch { return error.reason }
    }
}
