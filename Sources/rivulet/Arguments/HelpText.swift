// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Writes the help of the program and of its commands from their tables.
enum HelpText {
    /// Fits the narrowest terminal that people use.
    static let columns = 80
    private static let optionColumn = 28

    /// The help of one command.
    static func command(_ command: CommandSpecification) -> String {
        var text = "\(command.spelling): \(command.summary)\n\nUsage:\n"
        for line in command.synopsis { text += hanging("rivulet \(line)", indent: 2, hang: 6) }
        for paragraph in command.details { text += "\n" + wrapped(paragraph, indent: 0) }
        if let operand = command.operand {
            text += "\nArguments:\n" + row(operand.name, operand.help)
        }
        text += "\nOptions:\n"
        for option in command.options { text += row(label(option), explanation(option)) }
        if !command.examples.isEmpty {
            text += "\nExamples:\n"
            for example in command.examples {
                text += wrapped("# \(example.purpose)", indent: 2)
                text += "  \(example.line)\n"
            }
        }
        text += "\nExit codes:\n"
        for exit in command.exits {
            text += row("\(exit.status.rawValue)", exit.meaning, column: 8)
        }
        return text
    }

    private static func label(_ option: OptionSpecification) -> String {
        let letter = option.letter.map { "-\($0), " } ?? "    "
        return letter + option.spelling + (option.placeholder.map { " \($0)" } ?? "")
    }

    private static func explanation(_ option: OptionSpecification) -> String {
        var text = option.help
        if option.repeats { text += " May be given several times." }
        if let value = option.defaultText { text += " (default: \(value))" }
        return text
    }

    /// A label and its explanation, beside it where it fits and below it where not.
    static func row(_ label: String, _ explanation: String, column: Int = optionColumn) -> String {
        let lines = lines(of: explanation, width: columns - column)
        var text = "  " + label
        var rest = lines[...]
        if text.count + 2 <= column, let first = rest.popFirst() {
            text += String(repeating: " ", count: column - text.count) + first
        }
        text += "\n"
        for line in rest { text += String(repeating: " ", count: column) + line + "\n" }
        return text
    }

    static func wrapped(_ text: String, indent: Int) -> String {
        lines(of: text, width: columns - indent)
            .map { String(repeating: " ", count: indent) + $0 + "\n" }.joined()
    }

    private static func hanging(_ text: String, indent: Int, hang: Int) -> String {
        let lines = lines(of: text, width: columns - hang)
        return lines.enumerated().map { index, line in
            String(repeating: " ", count: index == 0 ? indent : hang) + line + "\n"
        }.joined()
    }

    private static func lines(of text: String, width: Int) -> [String] {
        var lines: [String] = []
        var line = ""
        for word in text.split(separator: " ") {
            if !line.isEmpty, line.count + 1 + word.count > width {
                lines.append(line)
                line = ""
            }
            line += line.isEmpty ? String(word) : " \(word)"
        }
        if !line.isEmpty { lines.append(line) }
        return lines
    }
}
