// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// The arguments of one command, checked against its options table.
///
/// Asking for an option that the table does not have is a mistake of the program and traps.
struct ParsedArguments: Sendable {
    let command: CommandSpecification
    private(set) var operands: [String] = []
    private var given: [String: [String]] = [:]

    init(command: CommandSpecification) { self.command = command }

    mutating func addOperand(_ text: String) { operands.append(text) }

    mutating func add(_ value: String, to option: OptionSpecification) {
        given[option.name, default: []].append(value)
    }

    func has(_ name: String) -> Bool { !values(name).isEmpty }

    func value(_ name: String) -> String? { values(name).last }

    func values(_ name: String) -> [String] {
        precondition(command.option(named: name) != nil, "\(command.name) has no --\(name)")
        return given[name] ?? []
    }

    /// The error for a value that is not accepted.
    func refusal(_ name: String, accepted: String) -> ProgramError {
        ArgumentParser.usage(
            command,
            "--\(name) \"\(ArgumentParser.shown(value(name) ?? ""))\" is not accepted; \(accepted)")
    }

    func refuse(_ text: String) -> ProgramError { ArgumentParser.usage(command, text) }

    func integer(_ name: String, in range: ClosedRange<Int>) throws(ProgramError) -> Int? {
        guard let text = value(name) else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw refusal(
                name, accepted: "a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    func duration(_ name: String, in range: ClosedRange<Duration>) throws(ProgramError) -> Duration?
    {
        guard let text = value(name) else { return nil }
        guard let duration = DurationText.parse(text), range.contains(duration) else {
            throw refusal(
                name,
                accepted: "a number with ms, s, m or h, from "
                    + "\(DurationText.short(range.lowerBound)) to "
                    + DurationText.short(range.upperBound))
        }
        return duration
    }

    /// A rate in events per second: `500`, `500/s`, `30/m`.
    func rate(_ name: String, in range: ClosedRange<Double>) throws(ProgramError) -> Double? {
        guard let text = value(name) else { return nil }
        guard let rate = DurationText.rate(text), range.contains(rate) else {
            throw refusal(
                name,
                accepted: "events per second or minute, such as 500, 500/s or 30/m, from "
                    + "\(range.lowerBound)/s to \(range.upperBound)/s")
        }
        return rate
    }
}
