// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// An option of a benchmark.
struct BenchmarkOption: Sendable {
    let name: String
    /// `nil` for a flag.
    let placeholder: String?
    let help: String

    init(_ name: String, _ placeholder: String, _ help: String) {
        self.name = name
        self.placeholder = placeholder
        self.help = help
    }

    init(flag name: String, _ help: String) {
        self.name = name
        placeholder = nil
        self.help = help
    }

    static let common = [
        BenchmarkOption("rounds", "N", "Turns that each side takes, one after the other."),
        BenchmarkOption("json", "FILE", "Write all figures to this file."),
        BenchmarkOption("svg", "FILE", "Draw them to this file."),
        BenchmarkOption("markdown", "FILE", "Write what is printed to this file too."),
        BenchmarkOption(flag: "quick", "Short and coarse: to see that it works."),
        BenchmarkOption(flag: "help", "Show this help."),
    ]
}

/// A benchmark as the command line knows it; parser and help come from here.
struct BenchmarkCommand: Sendable {
    let name: String
    let summary: String
    /// Lines as they are shown.
    let details: String
    let options: [BenchmarkOption]
    let example: String
    let run: @Sendable (GivenOptions) throws(BenchmarkError) -> Void

    var help: String {
        var text = "Benchmarks \(name): \(summary)\n\n\(details)\n\nOptions:\n"
        for option in options {
            let label = "  --\(option.name)" + (option.placeholder.map { " \($0)" } ?? "")
            text += Columns.padded(label, to: 26) + option.help + "\n"
        }
        return text + "\nExample:\n  \(example)\n"
    }
}

/// The options of one call, checked against its command's table.
struct GivenOptions: Sendable {
    let command: BenchmarkCommand
    private var values: [String: String] = [:]

    /// - Parameter arguments: `--name value`, `--name=value` and flags.
    init(_ arguments: [String], of command: BenchmarkCommand) throws(BenchmarkError) {
        self.command = command
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
            guard argument.hasPrefix("--"), let first = parts.first,
                let option = command.options.first(where: { "--\($0.name)" == first })
            else {
                let known = command.options.map { "--\($0.name)" }.joined(separator: ", ")
                throw BenchmarkError(.usage, "unknown option \"\(argument)\"; accepted: \(known)")
            }
            guard option.placeholder != nil else {
                guard parts.count == 1 else {
                    throw BenchmarkError(.usage, "--\(option.name) takes no value")
                }
                values[option.name] = ""
                continue
            }
            guard let value = parts.count == 2 ? parts[1] : rest.popFirst() else {
                throw BenchmarkError(.usage, "--\(option.name) needs a value")
            }
            values[option.name] = value
        }
    }

    func has(_ name: String) -> Bool { text(name) != nil }

    func text(_ name: String) -> String? {
        precondition(
            command.options.contains { $0.name == name }, "\(command.name) has no --\(name)")
        return values[name]
    }

    func integer(_ name: String, in range: ClosedRange<Int>) throws(BenchmarkError) -> Int? {
        guard let text = text(name) else { return nil }
        return try Self.integer(text, name, range)
    }

    /// Whole numbers, separated by commas.
    func integers(_ name: String, in range: ClosedRange<Int>) throws(BenchmarkError) -> [Int]? {
        guard let text = text(name) else { return nil }
        var numbers: [Int] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            numbers.append(try Self.integer(String(part), name, range))
        }
        return numbers
    }

    /// One of the raw values of `Choice`.
    func choice<Choice: RawRepresentable & CaseIterable>(_ name: String) throws(BenchmarkError)
        -> Choice?
    where Choice.RawValue == String {
        guard let text = text(name) else { return nil }
        guard let choice = Choice(rawValue: text) else {
            let accepted = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            throw BenchmarkError(.usage, "--\(name) \"\(text)\"; accepted: \(accepted)")
        }
        return choice
    }

    private static func integer(_ text: String, _ name: String, _ range: ClosedRange<Int>)
        throws(BenchmarkError) -> Int
    {
        guard let number = Int(text), range.contains(number) else {
            throw BenchmarkError(
                .usage,
                "--\(name) \"\(text)\"; accepted: \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }
}
