// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// Reads a command's arguments by its options table.
///
/// Accepted forms: `--name value`, `--name=value`, `-n value`, `-nvalue`, flags as `--name` or
/// `-n`, and after `--` operands only. A lone `-` is an operand. Options and operands may be mixed.
enum ArgumentParser {
    /// More arguments than a shell's pattern gives in practice; each is looked at once.
    static let argumentsMax = 65_536
    /// A value longer than this is a mistake; no option takes a document.
    static let valueBytesMax = 64 * 1024

    static func parse(_ arguments: [String], for command: CommandSpecification)
        throws(ProgramError) -> ParsedArguments
    {
        guard arguments.count <= argumentsMax else {
            throw usage(command, "\(arguments.count) arguments; at most \(argumentsMax)")
        }
        var parsed = ParsedArguments(command: command)
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            guard argument.utf8.count <= valueBytesMax else {
                throw usage(
                    command,
                    "an argument of \(argument.utf8.count) bytes; at most \(valueBytesMax)")
            }
            if argument == "--" {
                for operand in rest { parsed.addOperand(operand) }
                break
            } else if argument.hasPrefix("--") {
                try takeLong(argument.dropFirst(2), &rest, into: &parsed)
            } else if argument.hasPrefix("-"), argument != "-" {
                try takeShort(argument.dropFirst(), &rest, into: &parsed)
            } else {
                parsed.addOperand(argument)
            }
        }
        if !parsed.has("help") { try checkOperands(parsed) }
        return parsed
    }

    // MARK: - Options

    private static func takeLong(
        _ text: Substring, _ rest: inout ArraySlice<String>, into parsed: inout ParsedArguments
    ) throws(ProgramError) {
        let command = parsed.command
        let name = text.prefix { $0 != "=" }
        guard let option = command.options.first(where: { $0.name == name }) else {
            throw unknownOption("--\(name)", command)
        }
        let hasValue = name.endIndex != text.endIndex
        let value = hasValue ? String(text[name.endIndex...].dropFirst()) : nil
        try take(option, value, &rest, into: &parsed)
    }

    private static func takeShort(
        _ text: Substring, _ rest: inout ArraySlice<String>, into parsed: inout ParsedArguments
    ) throws(ProgramError) {
        let command = parsed.command
        guard let letter = text.first,
            let option = command.options.first(where: { $0.letter == letter })
        else { throw unknownOption("-\(text)", command) }
        let attached = text.dropFirst()
        if option.placeholder == nil, !attached.isEmpty {
            throw unknownOption("-\(text)", command)
        }
        try take(option, attached.isEmpty ? nil : String(attached), &rest, into: &parsed)
    }

    private static func take(
        _ option: OptionSpecification, _ attached: String?, _ rest: inout ArraySlice<String>,
        into parsed: inout ParsedArguments
    ) throws(ProgramError) {
        let command = parsed.command
        guard let placeholder = option.placeholder else {
            guard attached == nil else {
                throw usage(command, "\(option.spelling) is a flag and takes no value")
            }
            return parsed.add("", to: option)
        }
        if parsed.has(option.name), !option.repeats {
            throw usage(command, "\(option.spelling) is given twice; it may be given once")
        }
        if let attached { return parsed.add(attached, to: option) }
        guard let next = rest.first, !next.hasPrefix("--") else {
            var text = "\(option.spelling) needs a value: \(option.spelling) \(placeholder)"
            if let next = rest.first, next != "--" {
                text += " (a value that begins with dashes: \(option.spelling)=\(shown(next)))"
            }
            throw usage(command, text)
        }
        rest.removeFirst()
        parsed.add(next, to: option)
    }

    private static func checkOperands(_ parsed: ParsedArguments) throws(ProgramError) {
        let command = parsed.command
        guard let operand = command.operand else {
            guard let first = parsed.operands.first else { return }
            throw usage(command, "unexpected argument \"\(shown(first))\"; it takes options only")
        }
        if parsed.operands.count < operand.count.lowerBound {
            throw usage(command, "\(operand.name) is missing: \(operand.help)")
        }
        if parsed.operands.count > operand.count.upperBound {
            let surplus = parsed.operands[operand.count.upperBound]
            throw usage(
                command,
                "unexpected argument \"\(shown(surplus))\"; "
                    + "it takes at most \(operand.count.upperBound) \(operand.name)")
        }
    }

    // MARK: - Texts

    private static func unknownOption(_ given: String, _ command: CommandSpecification)
        -> ProgramError
    {
        let spellings = command.options.map(\.spelling)
        var text = "unknown option \"\(shown(given))\""
        if let near = NearMiss.closest(to: given, among: spellings) {
            text += "; did you mean \(near)?"
        }
        return usage(command, text + "\naccepted: " + spellings.joined(separator: ", "))
    }

    static func usage(_ command: CommandSpecification, _ text: String) -> ProgramError {
        ProgramError(.usage, "\(text)\nsee: \(command.spelling) --help")
    }

    static func shown(_ text: String) -> String { PeerText.display(text) }
}
