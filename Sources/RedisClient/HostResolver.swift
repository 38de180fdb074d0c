// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO
import Reactor

/// Resolves one connection's host name on a thread, and brings the answer back to the loop.
///
/// Threads: its loop's; the look-up itself runs on a thread of its own, at most one at a time: a
/// resolver that hangs is waited for, not asked again.
final class HostResolver {
    typealias Answer = Result<[SocketAddress], ResolveError>

    private let loop: EventLoop
    private var waiting: ((Answer) -> Void)?
    private var isBusy = false

    init(loop: EventLoop) { self.loop = loop }

    /// Calls `completion` on the loop, unless ``cancel()`` or another call comes first.
    func resolve(host: String, port: UInt16, _ completion: @escaping (Answer) -> Void) {
        waiting = completion
        guard !isBusy else { return }
        isBusy = true
        let loop = self.loop
        let resolver = LoopBound(self, on: loop)
        _ = NamedThread("redis-resolve") {
            let answer: Answer
            do throws(ResolveError) {
                answer = .success(try SocketAddress.resolve(host: host, port: port))
            } catch { answer = .failure(error) }
            loop.post { resolver.value.finished(answer) }
        }
    }

    func cancel() { waiting = nil }

    private func finished(_ answer: Answer) {
        isBusy = false
        let completion = waiting
        waiting = nil
        completion?(answer)
    }
}
