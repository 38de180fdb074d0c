// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import rivulet

@Suite("Arguments")
struct ArgumentTests {
    static let command = CommandSpecification(
        name: "try", summary: "a command for tests", synopsis: ["try [options] FILE"],
        details: ["It does nothing."],
        operand: OperandSpecification(name: "FILE", count: 1...2, help: "A file."),
        options: [
            OptionSpecification("topic", letter: "t", "TOPIC", "Where to."),
            OptionSpecification("header", "NAME=VALUE", repeats: true, "A header."),
            OptionSpecification("wait", "TIME", default: "5s", "How long."),
            OptionSpecification(flag: "quiet", letter: "q", "Say nothing."),
        ],
        examples: [CommandExample(purpose: "one file", line: "rivulet try a")],
        exits: [(.success, "Done.")])

    func parse(_ arguments: String...) throws -> ParsedArguments {
        try ArgumentParser.parse(arguments, for: Self.command)
    }

    func refusal(_ arguments: String...) -> String {
        do {
            _ = try ArgumentParser.parse(arguments, for: Self.command)
            return "accepted"
        } catch {
            #expect(error.exitStatus == .usage)
            return error.detail
        }
    }

    @Test("every spelling of an option gives the same value")
    func spellings() throws {
        #expect(try parse("--topic", "a", "f").value("topic") == "a")
        #expect(try parse("--topic=a", "f").value("topic") == "a")
        #expect(try parse("-t", "a", "f").value("topic") == "a")
        #expect(try parse("f", "-ta").value("topic") == "a")
        #expect(try parse("--topic=--odd=1", "f").value("topic") == "--odd=1")
        #expect(try parse("--topic=", "f").value("topic") == "")
    }

    @Test("a lone dash is an operand, and after two dashes everything is")
    func operands() throws {
        #expect(try parse("-", "b").operands == ["-", "b"])
        #expect(try parse("-q", "--", "--topic", "-q").operands == ["--topic", "-q"])
    }

    @Test("an option that repeats keeps its values in order")
    func repeats() throws {
        let parsed = try parse("--header", "a=1", "f", "--header=b=2")
        #expect(parsed.values("header") == ["a=1", "b=2"])
    }

    @Test("an unknown option is named, with what was probably meant and what is accepted")
    func unknownOption() {
        let text = refusal("--topci", "x", "f")
        #expect(text.contains("unknown option \"--topci\"; did you mean --topic?"))
        #expect(text.contains("accepted: --topic, --header, --wait, --quiet, --help"))
        #expect(text.contains("see: rivulet try --help"))
        #expect(!refusal("--zzzzzzzz", "f").contains("did you mean"))
        #expect(refusal("-x", "f").contains("unknown option \"-x\""))
        #expect(refusal("-qx", "f").contains("unknown option \"-qx\""))
    }

    @Test("what a terminal would obey is not repeated in an error")
    func escapes() {
        #expect(refusal("--\u{1b}[2J", "f").contains("\\u{1b}[2J"))
    }

    @Test("a missing, surplus or repeated value is an error that says so")
    func values() {
        #expect(refusal("f", "--topic").contains("--topic needs a value: --topic TOPIC"))
        #expect(refusal("--topic", "--quiet", "f").contains("--topic=--quiet"))
        #expect(refusal("--quiet=yes", "f").contains("--quiet is a flag and takes no value"))
        #expect(refusal("-t", "a", "-t", "b", "f").contains("--topic is given twice"))
    }

    @Test("too few and too many operands are errors that name them")
    func operandCount() {
        #expect(refusal().contains("FILE is missing"))
        #expect(refusal("a", "b", "c").contains("unexpected argument \"c\""))
    }

    @Test("help is given even where the rest is incomplete")
    func helpWins() throws {
        #expect(try parse("--help").has("help"))
        #expect(try parse("-h").has("help"))
    }

    @Test("a flood of arguments and a value without end are refused")
    func bounds() {
        let many = [String](repeating: "f", count: ArgumentParser.argumentsMax + 1)
        #expect(throws: ProgramError.self) {
            try ArgumentParser.parse(many, for: Self.command)
        }
        let long = String(repeating: "x", count: ArgumentParser.valueBytesMax + 1)
        #expect(refusal(long).contains("at most 65536"))
    }

    @Test(
        "durations need a unit",
        arguments: [
            ("250ms", Duration.milliseconds(250)), ("5s", .seconds(5)), ("2m", .seconds(120)),
            ("1h", .seconds(3_600)), ("5", nil), ("s", nil), ("-5s", nil), ("5 s", nil), ("", nil),
            ("٥s", nil), ("999999999999999999999h", nil),
        ])
    func durations(text: String, expected: Duration?) {
        #expect(DurationText.parse(text) == expected)
    }

    @Test(
        "rates are per second or per minute",
        arguments: [
            ("500", 500.0), ("500/s", 500), ("0.5/s", 0.5), ("30/m", 0.5), ("x", nil), ("", nil),
            ("1e9", nil), ("5/h", nil), ("-1", nil), ("5/s/s", nil), ("nan", nil), ("/s", nil),
        ])
    func rates(text: String, expected: Double?) {
        #expect(DurationText.rate(text) == expected)
    }

    @Test("a value out of range says what would be accepted")
    func ranges() throws {
        let parsed = try parse("--wait", "2h", "f")
        let error = #expect(throws: ProgramError.self) {
            try parsed.duration("wait", in: .seconds(1)...(.seconds(60)))
        }
        #expect(error?.detail.contains("--wait \"2h\" is not accepted") == true)
        #expect(error?.detail.contains("from 1s to 1m") == true)
    }

    @Test("numbers are shown without noise")
    func numbers() {
        #expect(DurationText.decimal(1.50, places: 2) == "1.5")
        #expect(DurationText.decimal(2, places: 2) == "2")
        #expect(DurationText.decimal(-0.04, places: 1) == "0")
        #expect(DurationText.decimal(-0.5, places: 1) == "-0.5")
        #expect(Tabulation.grouped(1_234_567) == "1,234,567")
        #expect(Tabulation.count(1, "event") == "1 event")
        #expect(Tabulation.list(["a", "b", "c"], limit: 2) == "a, b and 1 more")
    }
}

@Suite("Near misses")
struct NearMissTests {
    @Test("the nearest name is found, whatever was mistyped")
    func nearest() {
        let names = ["publish", "tail", "feed", "dev-kafka", "health"]
        #expect(NearMiss.closest(to: "publihs", among: names) == "publish")
        #expect(NearMiss.closest(to: "pub", among: names) == nil)
        #expect(NearMiss.closest(to: "publ", among: names) == "publish")
        #expect(NearMiss.closest(to: "TAIL", among: names) == "tail")
        #expect(NearMiss.closest(to: "dev_kafka", among: names) == "dev-kafka")
        #expect(NearMiss.closest(to: "", among: names) == nil)
        #expect(NearMiss.closest(to: "wholly-different", among: names) == nil)
    }

    @Test("similar topics come nearest first, and no more than asked for")
    func similar() {
        let topics = ["its.detections", "its.detection", "its.analytics", "orders"]
        let found = NearMiss.similar(to: "its.detectoins", among: topics, limit: 2)
        #expect(found == ["its.detections", "its.detection"])
    }

    @Test("a name longer than any is not compared")
    func bounds() {
        let long = String(repeating: "a", count: 100_000)
        #expect(NearMiss.similar(to: long, among: [long], limit: 1).isEmpty)
    }
}

@Suite("Help")
struct HelpTests {
    @Test(
        "the help of every command shows every option, an example and the exit codes",
        arguments: Program.commands.map(\.specification.name))
    func complete(name: String) throws {
        let command = try #require(Program.commands.first { $0.specification.name == name })
        let text = HelpText.command(command.specification)
        for option in command.specification.options {
            #expect(text.contains(option.spelling))
        }
        #expect(text.contains("\nExamples:\n"))
        #expect(text.contains("\nExit codes:\n"))
        #expect(Program.overview.contains("\n  \(name)"))
    }

    @Test("no line of help that can be wrapped is wider than a terminal")
    func width() {
        for command in Program.commands {
            let lines = HelpText.command(command.specification).split(separator: "\n")
            let examples = Set(command.specification.examples.map { "  \($0.line)" })
            for line in lines where !examples.contains(String(line)) {
                #expect(line.count <= HelpText.columns, "\(line)")
            }
        }
    }

    @Test("no command has two options of one name or letter")
    func unambiguous() {
        for command in Program.commands {
            let options = command.specification.options
            #expect(Set(options.map(\.name)).count == options.count)
            let letters = options.compactMap(\.letter)
            #expect(Set(letters).count == letters.count)
        }
    }
}
