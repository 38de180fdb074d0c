// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Topic names, and patterns of them in which `*` stands for anything.
enum TopicPattern {
    /// Kafka's rule for names: 1 to 249 of these characters, and neither `.` nor `..`.
    static func isLegalName(_ name: String) -> Bool {
        (1...249).contains(name.utf8.count) && name != "." && name != ".."
            && name.utf8.allSatisfy(isLegal)
    }

    /// librdkafka's form: an anchored POSIX extended regular expression.
    static func regularExpression(for pattern: String) throws(KafkaError) -> String {
        let star = UInt8(ascii: "*")
        guard (1...249).contains(pattern.utf8.count),
            pattern.utf8.allSatisfy({ isLegal($0) || $0 == star })
        else {
            throw KafkaError(
                .configurationInvalid,
                "topic pattern \"\(pattern)\": use letters, digits, '.', '_', '-' and '*'")
        }
        var expression = "^"
        for character in pattern {
            switch character {
            case "*": expression += ".*"
            case ".": expression += "\\."
            default: expression.append(character)
            }
        }
        return expression + "$"
    }

    private static func isLegal(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "-"):
            true
        default: false
        }
    }
}
