// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import LoadGenerator
import Observability
import PosixIO

/// One worker of a load: this program again, which holds a share of the subscribers.
///
/// Threads: the one that made it. The worker is told what to do on its standard input and says what
/// has happened on its standard output, a line a second; it ends where its input does, so it never
/// outlives whoever started it.
final class LoadWorkerProcess {
    static let commandName = "load-worker"

    private(set) var ticks: [LoadTick] = []
    private(set) var received: [UInt32: Int] = [:]
    /// What its memory has grown by for its subscribers, at the most.
    private(set) var residentBytes = 0
    private(set) var refusal: String?
    private(set) var hasEnded = false
    private let id: pid_t
    /// To the worker's standard input and from its standard output.
    private let channel: OwnedDescriptor
    private var unread: [UInt8] = []

    init(_ settings: LoadWorker.Settings) throws(ProgramError) {
        do throws(Errno) {
            var ends: [CInt] = [-1, -1]
            let kind = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
            guard unsafe socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw .current }
            channel = OwnedDescriptor(adopting: ends[0])
            let theirs = OwnedDescriptor(adopting: ends[1])
            id = try Self.spawn(on: theirs.number)
        } catch {
            throw ProgramError(.unavailable, "a worker cannot be started: \(error)")
        }
        var lines = [
            "run \(settings.run)", "connections \(settings.connections)", "first \(settings.first)",
            "rate \(settings.connectRate)",
        ]
        for target in settings.targets {
            lines.append(
                "target \(target.address.host) \(target.address.port ?? 0) \(target.weight) "
                    + "\(target.authority) \(target.path)")
        }
        tell(lines.joined(separator: "\n") + "\ngo\n")
    }

    deinit {
        // Where nobody listens any more it ends.
        _ = shutdown(channel.number, CInt(SHUT_RDWR))
        var status: CInt = 0
        while unsafe waitpid(id, &status, 0) < 0, errno == EINTR {}
    }

    /// Has it close everything and say what it counted.
    func stop() { _ = shutdown(channel.number, CInt(SHUT_WR)) }

    private func tell(_ text: String) {
        _ = StandardStream.write(Array(text.utf8), to: channel.number)
    }

    /// To be watched for input.
    var interest: pollfd {
        pollfd(fd: hasEnded ? -1 : channel.number, events: Int16(POLLIN), revents: 0)
    }

    /// Reads what it has said.
    func read() {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while !hasEnded {
            let count = unsafe recv(
                channel.number, &buffer, buffer.count, CInt(MSG_DONTWAIT))
            guard count != 0 else {
                hasEnded = true
                break
            }
            guard count > 0 else { break }
            unread += buffer[..<count]
        }
        while let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
            take(String(decoding: unread[..<end], as: UTF8.self))
            unread.removeFirst(end + 1)
        }
    }

    private func take(_ line: String) {
        let rest = line.dropFirst(2)
        switch line.first {
        case "T": if let tick = LoadTick(line: rest) { ticks.append(tick) }
        case "R":
            for entry in rest.split(separator: ",") {
                let pair = entry.split(separator: ":")
                guard pair.count == 2, let events = UInt32(pair[0]), let count = Int(pair[1]) else {
                    continue
                }
                received[events, default: 0] += count
            }
        case "M": residentBytes = Int(rest) ?? 0
        case "X": refusal = String(rest)
        default: break
        }
    }

    /// The ticks that have come since this was last asked.
    func takeTicks() -> [LoadTick] {
        defer { ticks = [] }
        return ticks
    }

    // MARK: - The process

    private static func spawn(on channel: CInt) throws(Errno) -> pid_t {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_adddup2(&actions, channel, 0)
        unsafe posix_spawn_file_actions_adddup2(&actions, channel, 1)
        let words = ["rivulet", commandName]
        var arguments = unsafe words.map { unsafe strdup($0) } + [nil]
        defer {
            for index in unsafe arguments.indices { unsafe free(arguments[index]) }
        }
        var id = pid_t()
        let status = unsafe posix_spawn(
            &id, "/proc/self/exe", &actions, nil, &arguments, environ)
        guard status == 0 else { throw Errno(status) }
        return id
    }
}

/// The worker's side: what `rivulet load-worker` does. Not for people.
enum LoadWorkerProgram {
    private static let tick: Duration = .seconds(1)

    static func run() -> Int32 {
        // Who started it is told to stop, and stops it.
        _ = signal(SIGINT, SIG_IGN)
        guard let settings = readSettings() else { return ExitStatus.usage.rawValue }
        _ = DescriptorLimit.raised()
        do throws(Errno) {
            try work(settings)
            return ExitStatus.success.rawValue
        } catch {
            StandardStream.print("X a worker has failed: \(error)")
            return ExitStatus.failure.rawValue
        }
    }

    private static func work(_ settings: LoadWorker.Settings) throws(Errno) {
        let before = DescriptorLimit.residentBytes
        let worker = try LoadWorker(settings)
        var next = MonotonicTime.now + tick
        while !isTold() {
            worker.turn(milliseconds: 5)
            if MonotonicTime.now >= next {
                StandardStream.print("T \(worker.takeTick().line)")
                next = next + tick
            }
        }
        StandardStream.print("T \(worker.takeTick().line)")
        let counts = worker.receivedCounts.map { "\($0.key):\($0.value)" }
        StandardStream.print("R \(counts.joined(separator: ","))")
        StandardStream.print("M \(max(0, DescriptorLimit.residentBytes - before))")
        if let refusal = worker.refusal { StandardStream.print("X \(refusal)") }
    }

    /// True once standard input has ended.
    private static func isTold() -> Bool {
        var byte: UInt8 = 0
        return unsafe recv(0, &byte, 1, CInt(MSG_DONTWAIT)) >= 0
    }

    private static func readSettings() -> LoadWorker.Settings? {
        var settings = LoadWorker.Settings(
            targets: [], connections: 0, first: 0, connectRate: 1, run: "")
        while let line = readLine() {
            let words = line.split(separator: " ", maxSplits: 5).map(String.init)
            switch words.first {
            case "go": return settings.targets.isEmpty ? nil : settings
            case "run": settings.run = words.last ?? ""
            case "connections": settings.connections = Int(words.last ?? "") ?? 0
            case "first": settings.first = Int(words.last ?? "") ?? 0
            case "rate": settings.connectRate = Double(words.last ?? "") ?? 1
            case "target":
                guard words.count == 6, let port = UInt16(words[2]), let weight = Int(words[3]),
                    let address = SocketAddress(numericHost: words[1], port: port)
                else { return nil }
                settings.targets.append(
                    LoadTarget(
                        address: address, authority: words[4], path: words[5], weight: weight))
            default: return nil
            }
        }
        return nil
    }
}
