// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO
import Synchronization

/// Takes commands for a development broker at a Unix-domain socket, from whoever may open it.
///
/// Threads: one of its own. One connection is served at a time, the others wait; the end of one
/// ends nothing else.
final class ControlSocket: Sendable {
    private let path: String
    private let shared: Shared
    private let thread: NamedThread

    private final class Shared: Sendable {
        let listener: OwnedDescriptor
        // Relaxed: a lone flag that nothing else is inferred from.
        let isClosing = Atomic<Bool>(false)

        init(_ listener: consuming OwnedDescriptor) { self.listener = listener }
    }

    /// How often a silent connection or listener is left for a look whether all is to end.
    private static let pollMilliseconds: CInt = 100

    /// Listens at `path`, which must not exist; removed by ``close()``.
    init(_ path: String, desk: BrokerDesk) throws(ProgramError) {
        self.path = path
        do throws(Errno) {
            shared = Shared(try StreamSocket.listen(on: .unix(path), backlog: 8, sharesPort: false))
        } catch {
            throw ProgramError(.outputRefused, "cannot listen at \(path): \(error)")
        }
        let shared = shared
        thread = NamedThread("control") { Self.serve(shared, desk) }
    }

    func close() {
        shared.isClosing.store(true, ordering: .relaxed)
        thread.join()
        _ = unsafe unlink(path)
    }

    private static func serve(_ shared: Shared, _ desk: BrokerDesk) {
        while !shared.isClosing.load(ordering: .relaxed) {
            guard becomesReadable(shared.listener.number),
                let socket = try? StreamSocket.accept(from: shared.listener.number)
            else { continue }
            let descriptor = socket.takeDescriptor()
            converse(descriptor, shared, desk)
        }
    }

    /// Commands are short and few, so each is read with a reader of its own as it comes.
    private static func converse(
        _ descriptor: borrowing OwnedDescriptor, _ shared: Shared, _ desk: BrokerDesk
    ) {
        let number = descriptor.number
        var unread: [UInt8] = []
        while !shared.isClosing.load(ordering: .relaxed) {
            if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: unread[..<end], as: UTF8.self)
                unread.removeFirst(end + 1)
                guard send(desk.answer(line) + "\n", to: number) else { return }
                continue
            }
            guard unread.count <= BrokerControl.lineBytesMax else { return }
            guard becomesReadable(number) else { continue }
            var buffer = [UInt8](repeating: 0, count: BrokerControl.lineBytesMax)
            let outcome = unsafe buffer.withUnsafeMutableBytes {
                unsafe StreamSocket.read(number, into: $0)
            }
            switch outcome {
            case .transferred(let count): unread += buffer.prefix(count)
            case .wouldBlock: continue
            case .endOfFile, .failed: return
            }
        }
    }

    /// A reply fits into the buffer of any socket; who does not read it is left.
    private static func send(_ text: String, to number: CInt) -> Bool {
        let bytes = Array(text.utf8)
        return unsafe bytes.withUnsafeBytes { unsafe StreamSocket.write(number, $0) }
            == .transferred(bytes.count)
    }

    private static func becomesReadable(_ number: CInt) -> Bool {
        var entry = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
        return unsafe poll(&entry, 1, pollMilliseconds) == 1
    }
}
