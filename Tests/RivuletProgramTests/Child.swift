// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import PosixIO
import Testing

/// A program as a process of its own, with its three streams in the test's hands.
final class Child {
    /// Long enough for a busy machine; a test that is right never waits for it.
    static let patience: Duration = .seconds(30)

    private(set) var output = ""
    private(set) var errors = ""

    private let id: pid_t
    private var input: OwnedDescriptor?
    private var outputEnd: OwnedDescriptor?
    private let errorEnd: OwnedDescriptor
    private var outputBytes: [UInt8] = []
    private var errorBytes: [UInt8] = []
    private var isErrorOpen = true
    private var exitStatus: CInt?

    /// The program that was built beside the tests.
    static var rivulet: String {
        var path = [CChar](repeating: 0, count: 4_096)
        let count = unsafe readlink("/proc/self/exe", &path, path.count - 1)
        let own = String(decoding: path.prefix(max(0, count)).map { UInt8($0) }, as: UTF8.self)
        return own.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" } + "/rivulet"
    }

    init(
        _ arguments: [String], program: String = Child.rivulet, environment: [String] = []
    ) throws {
        var ends: [CInt] = []
        let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        for _ in 0..<3 {
            var pair: [CInt] = [-1, -1]
            try #require(unsafe socketpair(AF_UNIX, type, 0, &pair) == 0)
            ends += pair
        }
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        for stream in 0..<3 {
            unsafe posix_spawn_file_actions_adddup2(&actions, ends[stream * 2 + 1], CInt(stream))
        }
        var id = pid_t()
        let status = unsafe Self.withStrings([program] + arguments) { arguments in
            unsafe Self.withStrings(environment + ["PATH=/usr/bin:/bin", "TZ=UTC"]) { environment in
                unsafe posix_spawn(&id, program, &actions, nil, arguments, environment)
            }
        }
        for stream in 0..<3 { close(ends[stream * 2 + 1]) }
        input = OwnedDescriptor(adopting: ends[0])
        outputEnd = OwnedDescriptor(adopting: ends[2])
        errorEnd = OwnedDescriptor(adopting: ends[4])
        self.id = id
        try #require(status == 0, "\(program): \(Errno(status))")
    }

    deinit {
        guard exitStatus == nil else { return }
        kill(id, SIGKILL)
        var status: CInt = 0
        _ = unsafe waitpid(id, &status, 0)
    }

    private static func withStrings<Result>(
        _ strings: [String],
        _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
    ) -> Result {
        var copies = unsafe strings.map { unsafe strdup($0) } + [nil]
        defer { for index in strings.indices { unsafe free(copies[index]) } }
        return unsafe copies.withUnsafeMutableBufferPointer { unsafe body($0.baseAddress!) }
    }

    func send(_ text: String) {
        guard let number = inputNumber else { return }
        StandardWriter.write(Array(text.utf8), to: number)
    }

    func endInput() { input = nil }

    /// Goes away as the reader of a pipe does.
    func closeOutput() { outputEnd = nil }

    func signal(_ number: CInt) { kill(id, number) }

    private var inputNumber: CInt? {
        switch input {
        case .some(let end): end.number
        case .none: nil
        }
    }

    private var outputNumber: CInt? {
        switch outputEnd {
        case .some(let end): end.number
        case .none: nil
        }
    }

    /// Reads what the program says until `condition` holds; false where it never does.
    func wait(until condition: (Child) -> Bool) -> Bool {
        let deadline = MonotonicTime.now + Self.patience
        while !condition(self) {
            guard outputNumber != nil || isErrorOpen, MonotonicTime.now < deadline else {
                return false
            }
            drain(until: deadline)
        }
        return true
    }

    /// Waits for the end and returns the exit status, or minus the signal.
    func exit() -> CInt {
        if let exitStatus { return exitStatus }
        guard wait(until: { !$0.isErrorOpen && $0.outputNumber == nil }) else { return .min }
        var status: CInt = 0
        _ = unsafe waitpid(id, &status, 0)
        let code =
            clinux_wait_status_exited(status) != 0
            ? clinux_wait_status_exit_code(status) : -clinux_wait_status_signal(status)
        exitStatus = code
        return code
    }

    private func drain(until deadline: MonotonicTime) {
        var entries: [pollfd] = []
        if let outputNumber {
            entries.append(pollfd(fd: outputNumber, events: Int16(POLLIN), revents: 0))
        }
        if isErrorOpen {
            entries.append(pollfd(fd: errorEnd.number, events: Int16(POLLIN), revents: 0))
        }
        let left = CInt(clamping: (deadline - .now).wholeMilliseconds + 1)
        _ = unsafe poll(&entries, nfds_t(entries.count), left)
        for entry in entries where entry.revents != 0 {
            var buffer = [UInt8](repeating: 0, count: 65_536)
            let count = unsafe read(entry.fd, &buffer, buffer.count)
            let isErrors = entry.fd == errorEnd.number
            if count <= 0 {
                if isErrors { isErrorOpen = false } else { outputEnd = nil }
            } else if isErrors {
                errorBytes += buffer[..<count]
                errors = String(decoding: errorBytes, as: UTF8.self)
            } else {
                outputBytes += buffer[..<count]
                output = String(decoding: outputBytes, as: UTF8.self)
            }
        }
    }

    /// Runs a program to its end.
    static func run(
        _ arguments: [String], program: String = Child.rivulet, input: String = "",
        environment: [String] = []
    ) throws -> Child {
        let child = try Child(arguments, program: program, environment: environment)
        child.send(input)
        child.endInput()
        _ = child.exit()
        return child
    }
}

/// Writes all bytes, however long the reader takes.
enum StandardWriter {
    static func write(_ bytes: [UInt8], to descriptor: CInt) {
        var sent = 0
        while sent < bytes.count {
            let outcome = unsafe bytes[sent...].withUnsafeBytes {
                unsafe StreamSocket.write(descriptor, $0)
            }
            switch outcome {
            case .transferred(let count): sent += count
            case .wouldBlock:
                var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                _ = unsafe poll(&entry, 1, -1)
            case .endOfFile, .failed: return
            }
        }
    }
}
