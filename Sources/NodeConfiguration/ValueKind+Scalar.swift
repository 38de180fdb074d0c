// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Sizes in bytes: `512`, `64KiB`, `1MiB`, `2GiB`.
enum ByteSize {
    static let units: [(name: String, bytes: Int)] = [
        ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10),
    ]

    /// In the largest unit that divides it.
    static func text(_ bytes: Int) -> String {
        for unit in units where bytes >= unit.bytes && bytes.isMultiple(of: unit.bytes) {
            return "\(bytes / unit.bytes)\(unit.name)"
        }
        return "\(bytes)"
    }
}

/// Durations: `250ms`, `15s`, `5m`, `1h`, `7d`.
enum DurationUnit {
    static let units: [(name: String, milliseconds: Int)] = [
        ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1),
    ]
}

extension Duration {
    /// As the configuration writes it, in the largest unit that divides it.
    package var configurationText: String {
        let (seconds, attoseconds) = components
        let milliseconds = Int(seconds) * 1000 + Int(attoseconds / 1_000_000_000_000_000)
        for unit in DurationUnit.units
        where milliseconds != 0 && milliseconds.isMultiple(of: unit.milliseconds) {
            return "\(milliseconds / unit.milliseconds)\(unit.name)"
        }
        return "0s"
    }
}

extension ValueKind {
    /// Reads one value that stands alone. Lists, properties and channels are none.
    ///
    /// `isQuoted` is true for a text that YAML put in quotes, which is no number and no boolean.
    func scalar(_ text: String, isQuoted: Bool) throws(Refusal) -> SettingValue {
        switch self {
        case .text(let rule):
            if let reason = rule.refuse(text) { throw refusal(of: text, .refused, reason) }
            return .text(text)
        case .secret:
            let reason =
                TextRule.refuseSize(text, 1...ConfigurationLimits.textBytes)
                ?? TextRule.refuseUnprintable(text)
            if let reason {
                throw Refusal(given: Secret.mask, detail: reason, accepted: accepted)
            }
            return .secret(Secret(text))
        case .integer(let range): return .integer(try integer(text, isQuoted, range))
        case .boolean: return .boolean(try boolean(text, isQuoted))
        case .duration(let range): return .duration(try duration(text, range))
        case .bytes(let range): return .integer(try byteSize(text, range))
        case .choice(let names):
            guard names.contains(text) else {
                throw refusal(
                    of: text, .refused, "is none of the choices",
                    suggestion: Spelling.nearest(to: text, among: names))
            }
            return .text(text)
        case .list, .properties, .channels, .patterns:
            throw refusal(of: text, .wrongType, "is a single value")
        }
    }

    func refusal(
        of text: String,
        _ code: ConfigurationError.Code,
        _ detail: String,
        suggestion: String? = nil
    ) -> Refusal {
        Refusal(
            code: code, given: Excerpt.quoted(text), detail: detail, accepted: accepted,
            suggestion: suggestion)
    }

    private func integer(_ text: String, _ isQuoted: Bool, _ range: ClosedRange<Int>)
        throws(Refusal) -> Int
    {
        guard !isQuoted else { throw refusal(of: text, .wrongType, "is a text in quotes") }
        let digits = text.hasPrefix("-") ? text.dropFirst() : text[...]
        guard !digits.isEmpty, digits.utf8.allSatisfy(\.isASCIIDigit) else {
            throw refusal(of: text, .wrongType, "is no integer")
        }
        // YAML 1.1 reads `010` as eight.
        guard digits == "0" || !digits.hasPrefix("0") else {
            throw refusal(of: text, .wrongType, "begins with a zero, which some read as octal")
        }
        guard let number = Int(text), range.contains(number) else {
            throw refusal(of: text, .outOfRange, "is out of range")
        }
        return number
    }

    private func boolean(_ text: String, _ isQuoted: Bool) throws(Refusal) -> Bool {
        guard !isQuoted else { throw refusal(of: text, .wrongType, "is a text in quotes") }
        switch text {
        case "true": return true
        case "false": return false
        default:
            let meansTrue = ["yes", "on", "y", "1", "true", "enabled"].contains(text.lowercased())
            let meansFalse = ["no", "off", "n", "0", "false", "disabled"]
                .contains(text.lowercased())
            throw refusal(
                of: text, .wrongType, "is no boolean",
                suggestion: meansTrue ? "true" : meansFalse ? "false" : nil)
        }
    }

    private func duration(_ text: String, _ range: ClosedRange<Duration>) throws(Refusal)
        -> Duration
    {
        let (digits, unitName) = Self.numberAndUnit(text)
        guard !digits.isEmpty,
            let unit = DurationUnit.units.first(where: { $0.name == unitName })
        else {
            let aliases = [
                "sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m",
                "minute": "m", "minutes": "m", "hour": "h", "hours": "h", "hr": "h", "day": "d",
                "days": "d", "msec": "ms", "millis": "ms", "": "s",
            ]
            let meant = digits.isEmpty ? nil : aliases[unitName.lowercased()]
            throw refusal(
                of: text, .wrongType, "is no duration",
                suggestion: meant.map { Excerpt.escaped("\(digits)\($0)") })
        }
        guard let number = Int(digits) else {
            throw refusal(of: text, .outOfRange, "is out of range")
        }
        let (milliseconds, overflow) = number.multipliedReportingOverflow(by: unit.milliseconds)
        guard !overflow, range.contains(.milliseconds(milliseconds)) else {
            throw refusal(of: text, .outOfRange, "is out of range")
        }
        return .milliseconds(milliseconds)
    }

    private func byteSize(_ text: String, _ range: ClosedRange<Int>) throws(Refusal) -> Int {
        let (digits, unitName) = Self.numberAndUnit(text)
        let unit = unitName.isEmpty ? 1 : ByteSize.units.first { $0.name == unitName }?.bytes
        guard !digits.isEmpty, let unit else {
            let aliases = ["k": "KiB", "m": "MiB", "g": "GiB"]
            let meant = unitName.lowercased().first.flatMap { aliases[String($0)] }
            throw refusal(
                of: text, .wrongType, "is no byte size",
                suggestion: digits.isEmpty ? nil : meant.map { Excerpt.escaped("\(digits)\($0)") })
        }
        guard let number = Int(digits) else {
            throw refusal(of: text, .outOfRange, "is out of range")
        }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: unit)
        guard !overflow, range.contains(bytes) else {
            throw refusal(of: text, .outOfRange, "is out of range")
        }
        return bytes
    }

    private static func numberAndUnit(_ text: String) -> (digits: String, unit: String) {
        let digits = text.utf8.prefix(while: \.isASCIIDigit)
        let number = String(decoding: digits, as: UTF8.self)
        return (number, String(decoding: text.utf8.dropFirst(digits.count), as: UTF8.self))
    }
}
