// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// One option of a command: the source of its parsing and of its help.
struct OptionSpecification: Sendable {
    /// Without the dashes.
    let name: String
    /// The one-letter form, without the dash.
    let letter: Character?
    /// What stands for the value in the help; `nil` for a flag, which takes none.
    let placeholder: String?
    let repeats: Bool
    /// What holds without the option, for the help.
    let defaultText: String?
    let help: String

    /// An option with a value.
    init(
        _ name: String, letter: Character? = nil, _ placeholder: String, repeats: Bool = false,
        default defaultText: String? = nil, _ help: String
    ) {
        self.name = name
        self.letter = letter
        self.placeholder = placeholder
        self.repeats = repeats
        self.defaultText = defaultText
        self.help = help
    }

    /// A flag.
    init(flag name: String, letter: Character? = nil, _ help: String) {
        self.name = name
        self.letter = letter
        placeholder = nil
        repeats = false
        defaultText = nil
        self.help = help
    }

    /// As people type it: `--topic`.
    var spelling: String { "--\(name)" }

    static let help = OptionSpecification(flag: "help", letter: "h", "Show this help.")
}

/// What a command takes beside its options.
struct OperandSpecification: Sendable {
    /// In capitals, as in the synopsis.
    let name: String
    let count: ClosedRange<Int>
    let help: String
}

/// A command line that works, with what it is for.
struct CommandExample: Sendable {
    let purpose: String
    let line: String
}

/// A command of the program: its options table, from which both the parser and the help come.
struct CommandSpecification: Sendable {
    let name: String
    /// One line for the overview.
    let summary: String
    /// After `rivulet `, one line for each way to call it.
    let synopsis: [String]
    /// Paragraphs; they are wrapped.
    let details: [String]
    let operand: OperandSpecification?
    let options: [OptionSpecification]
    let examples: [CommandExample]
    let exits: [(status: ExitStatus, meaning: String)]

    init(
        name: String, summary: String, synopsis: [String], details: [String],
        operand: OperandSpecification? = nil, options: [OptionSpecification],
        examples: [CommandExample], exits: [(status: ExitStatus, meaning: String)]
    ) {
        self.name = name
        self.summary = summary
        self.synopsis = synopsis
        self.details = details
        self.operand = operand
        self.options = options + [.help]
        self.examples = examples
        self.exits = exits
    }

    func option(named name: String) -> OptionSpecification? {
        options.first { $0.name == name }
    }

    /// The command as it is called, for messages.
    var spelling: String { "rivulet \(name)" }
}
