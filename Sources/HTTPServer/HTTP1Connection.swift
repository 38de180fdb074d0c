// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import CLinux
import Glibc
import HTTP1Wire
import Observability
import PosixIO
import Reactor

/// One TCP connection that speaks HTTP/1.1; once a stream is opened on it, that stream.
///
/// View: connection. Threads: its loop's. It owns a buffer only while it holds part of a request
/// or unsent bytes of an answer, so that an idle one is this object and nothing else.
final class HTTP1Connection: ByteStream, ListenerConnection, RequestAnswering, ReadinessHandler,
    EndOfTurnWork
{
    let listener: HTTPListener
    var key = Slab<any ListenerConnection>.Key(index: .max, generation: 0)

    private var transport: ConnectionTransport
    private var registration: Registration?
    var phase = Phase.receiving
    var flags: Flags
    /// For the metrics: which method the request being answered has.
    var methodIndex: UInt8 = 0
    /// What has come of requests that were not handled yet.
    var partial: PartialRequest?
    /// Bytes of an answer or of a stream's head from `outputStart` on that the socket has not taken.
    private var output: [UInt8] = []
    private var outputStart = 0
    private var observer: (any ByteStreamObserver)?
    /// Why the stream ended, until the observer is told.
    private var streamEnd: StreamEnd?
    /// Bytes read only to be discarded, while streaming or lingering.
    private var discardedBytes: Int32 = 0
    private var deadline = ConnectionDeadline()

    init(
        _ transport: consuming ConnectionTransport, peer: SocketAddress, listener: HTTPListener,
        isAdmitted: Bool
    ) {
        self.listener = listener
        self.transport = transport
        flags = isAdmitted ? .isAdmitted : []
        super.init(peer: peer)
    }

    var isAdmitted: Bool { flags.contains(.isAdmitted) }
    var clientHasGone: Bool { phase == .closed }

    func start() {
        do {
            registration = try listener.loop.register(
                transport.number, for: .readable, handler: self)
        } catch {
            listener.metrics.countRejection(.memory)
            return close()
        }
        if isAdmitted {
            setDeadline(after: listener.settings.headerTimeout)
        } else {
            phase = .rejecting
            setDeadline(after: listener.settings.lingerTimeout)
        }
    }

    // MARK: - Readiness

    func descriptorIsReady(_ readiness: Readiness) {
        if readiness.contains(.failed) { return socketFailed() }
        if readiness.contains(.writable) {
            socketIsWritable()
            if phase == .closed { return }
        }
        guard readiness.hasInput else { return }
        switch phase {
        case .receiving where flags.contains(.awaitsTurn): pauseReading()
        case .receiving: readRequests()
        case .answering, .flushing: pauseReading()
        case .streaming:
            // Upgraded, the peer's last bytes are read before its end is found.
            if readiness.contains(.peerClosed), !flags.contains(.isUpgraded) {
                endStream(.peerClosed)
            } else {
                discardInput()
            }
        case .rejecting: readRejected()
        case .lingering: discardInput()
        case .closed: break
        }
    }

    private func socketFailed() {
        guard phase == .streaming else { return close() }
        let error = StreamSocket.pendingError(of: transport.number)
        endStream(error.map { .failed($0) } ?? .peerClosed)
    }

    private func socketIsWritable() {
        // Wanted again by whoever meets a full socket; the kernel is told only of a difference.
        flags.remove(.awaitsWritable)
        if hasOutput || phase == .flushing { flushOutput() }
        if phase == .streaming, !flags.contains(.awaitsWritable), streamEnd == nil {
            observer?.streamIsWritable(self)
        }
        if !flags.contains(.awaitsWritable) { updateInterest() }
    }

    private func readRequests() {
        switch transport.read(into: listener.scratch) {
        case .transferred(let count): receive(count)
        case .wouldBlock: break
        case .endOfFile, .failed: inputEnded()
        }
    }

    /// The peer sends nothing more, and whatever it had asked has been answered.
    private func inputEnded() {
        if partial?.isEmpty == false {
            listener.metrics.countBadRequest(.unexpectedEnd)
        }
        close()
    }

    /// Leaves input in the kernel, where it slows its sender down, until the answer is out.
    private func pauseReading() {
        flags.insert(.readingIsPaused)
        updateInterest()
    }

    func resumeReading() {
        guard flags.contains(.readingIsPaused) else { return }
        flags.remove(.readingIsPaused)
        updateInterest()
    }

    private func updateInterest() {
        guard let registration else { return }
        var interest: Interest = []
        if !flags.contains(.readingIsPaused) { interest.insert(.readable) }
        if flags.contains(.awaitsWritable) {
            interest.insert(.writable)
            flags.insert(.writableIsArmed)
        } else {
            flags.remove(.writableIsArmed)
        }
        listener.loop.update(registration, descriptor: transport.number, to: interest)
    }

    private func awaitWritable() {
        flags.insert(.awaitsWritable)
        if !flags.contains(.writableIsArmed) { updateInterest() }
    }

    /// Gives up the transport, for another protocol to be spoken over it.
    func giveUpTransport() -> ConnectionTransport {
        if let registration { listener.loop.deregister(registration, descriptor: transport.number) }
        registration = nil
        phase = .closed
        deadline.clear()
        partial = nil
        return transport.take()
    }

    // MARK: - Input that is no request

    private func readRejected() {
        let count = readAndDiscard()
        guard phase == .rejecting, count == 0 || !rejectsHTTP2(count) else { return }
        rejectRequest()
    }

    private func discardInput() {
        let limit =
            phase == .streaming
            ? listener.settings.streamInputBytes : listener.settings.lingerBytes
        readAndDiscard()
        guard phase != .closed, Int(discardedBytes) > limit else { return }
        if phase == .streaming { endStream(.peerSentData) } else { close() }
    }

    /// - Returns: How many bytes were read.
    @discardableResult
    private func readAndDiscard() -> Int {
        switch transport.read(into: listener.scratch) {
        case .transferred(let count) where phase == .streaming && flags.contains(.isUpgraded):
            let scratch = listener.scratch
            observer?.stream(self, received: scratch.bytes(count))
            return count
        case .transferred(let count):
            discardedBytes = Int32(clamping: Int(discardedBytes) + count)
            return count
        case .wouldBlock: break
        case .endOfFile:
            if phase == .streaming { endStream(.peerClosed) } else { close() }
        case .failed(let error):
            if phase == .streaming { endStream(.failed(error)) } else { close() }
        }
        return 0
    }

    // MARK: - Sending

    private var hasOutput: Bool { outputStart < output.count || transport.holdsUnsent }

    /// Sends an answer's head and body, and keeps what the socket does not take.
    func send(_ head: [UInt8], _ body: [UInt8], moreFollows: Bool = false) {
        let taken: Int
        switch write(head, body, moreFollows) {
        case .transferred(let count): taken = count
        case .wouldBlock: taken = 0
        case .endOfFile, .failed: return close()
        }
        listener.bytesSent += taken
        if taken == head.count + body.count, !transport.holdsUnsent { return outputIsSent() }
        if taken >= head.count {
            output = body
            outputStart = taken - head.count
        } else {
            output = Array(head[taken...])
            output.append(contentsOf: body)
            outputStart = 0
        }
        awaitWritable()
        setDeadline(after: listener.settings.idleTimeout)
    }

    /// Sends an interim answer as far as the socket takes it; its client does not depend on it.
    func sendInterim(_ bytes: [UInt8]) {
        let outcome = unsafe bytes.withUnsafeBytes { unsafe transport.write($0) }
        if case .transferred(let count) = outcome { listener.bytesSent += count }
    }

    private func write(_ head: [UInt8], _ body: [UInt8], _ moreFollows: Bool) -> TransferOutcome {
        unsafe head.withUnsafeBytes { head in
            guard !body.isEmpty else {
                return unsafe transport.write(head, moreFollows: moreFollows)
            }
            return unsafe body.withUnsafeBytes { body in
                let pieces: [2 of iovec] = unsafe [
                    iovec(
                        iov_base: UnsafeMutableRawPointer(mutating: head.baseAddress),
                        iov_len: head.count),
                    iovec(
                        iov_base: UnsafeMutableRawPointer(mutating: body.baseAddress),
                        iov_len: body.count),
                ]
                return unsafe pieces.span.withUnsafeBufferPointer {
                    unsafe transport.write(pieces: $0)
                }
            }
        }
    }

    private func flushOutput() {
        switch writeOutput() {
        case .transferred(let count):
            listener.bytesSent += count
            outputStart += count
            if !hasOutput { return outputIsSent() }
            // A reader that makes progress is slow, not gone.
            if phase == .flushing { setDeadline(after: listener.settings.idleTimeout) }
        case .wouldBlock: break
        case .endOfFile: return
        case .failed(let error):
            if phase == .streaming { endStream(.failed(error)) } else { close() }
            return
        }
        awaitWritable()
    }

    private func writeOutput() -> TransferOutcome {
        guard outputStart < output.count else { return transport.flush() }
        return unsafe output.withUnsafeBytes {
            unsafe transport.write(UnsafeRawBufferPointer(rebasing: $0[outputStart...]))
        }
    }

    private func outputIsSent() {
        output = []
        outputStart = 0
        guard phase == .flushing else { return }
        if flags.contains(.closesAfterOutput) { return beginClose() }
        phase = .receiving
        setDeadline(after: listener.settings.idleTimeout)
        if !flags.contains(.isReading) { readBuffered() }
    }

    // MARK: - The stream

    /// Becomes a stream whose head is `head`; false where the connection failed at that.
    ///
    /// - Parameter moreFollows: The head may leave together with what the observer writes next: half
    ///   of what the kernel has to do for a new stream is to send a segment.
    func beginStream(
        _ head: [UInt8], observer: any ByteStreamObserver, moreFollows: Bool = false
    ) -> Bool {
        partial = nil
        phase = .streaming
        send(head, [], moreFollows: moreFollows)
        guard phase == .streaming else { return false }
        clearDeadline()
        self.observer = observer
        listener.metrics.streamsOpened.add()
        listener.metrics.streamsOpen.add(1)
        resumeReading()
        return true
    }

    override func write(_ pieces: UnsafeBufferPointer<iovec>) -> ByteStreamWrite {
        listener.loop.requireCurrent()
        guard phase == .streaming else { return .ended }
        if flags.contains(.awaitsWritable) { return .some(0) }
        var written = 0
        var first = 0
        while first < pieces.count {
            let last = min(pieces.count, first + Int(UIO_MAXIOV))
            let run = unsafe UnsafeBufferPointer(rebasing: pieces[first..<last])
            var offered = 0
            for index in run.indices { unsafe offered += run[index].iov_len }
            var taken = 0
            switch unsafe transport.write(pieces: run) {
            case .transferred(let count): taken = count
            case .wouldBlock, .endOfFile: break
            case .failed(let error):
                streamWillEnd(.failed(error))
                close()
                return .ended
            }
            written += taken
            listener.bytesSent += taken
            if taken < offered {
                awaitWritable()
                return .some(written)
            }
            first = last
        }
        if transport.holdsUnsent { awaitWritable() }
        return .all
    }

    override var openSocket: CInt? {
        guard phase == .streaming, !flags.contains(.awaitsWritable), !hasOutput,
            !transport.endsInBand
        else { return nil }
        return transport.number
    }

    override func sentToSocket(_ bytes: Int, isFull: Bool) {
        listener.bytesSent += bytes
        if isFull { awaitWritable() }
    }

    override func finish() {
        listener.loop.requireCurrent()
        guard phase == .streaming else { return }
        streamWillEnd(.finished)
        flags.formUnion([.closesAfterOutput, .lingers])
        if hasOutput {
            phase = .flushing
            setDeadline(after: listener.settings.idleTimeout)
        } else {
            beginClose()
        }
    }

    override func abort() {
        listener.loop.requireCurrent()
        guard phase == .streaming else { return }
        streamWillEnd(.aborted)
        if unsentBytes > 0 { transport.resetOnClose() }
        close()
    }

    override var unsentBytes: Int {
        guard phase != .closed else { return 0 }
        return transport.unsentBytes + output.count - outputStart
    }

    /// Notes the end of the stream; the observer hears of it at the end of the turn.
    private func streamWillEnd(_ reason: StreamEnd) {
        streamEnd = reason
        streamHasEnded(reason)
        listener.loop.atEndOfTurn(self)
    }

    /// Ends the stream from the loop's dispatch, where the observer can hear of it at once.
    private func endStream(_ reason: StreamEnd) {
        let observer = self.observer
        self.observer = nil
        streamHasEnded(reason)
        close()
        observer?.streamEnded(self, reason)
    }

    private func streamHasEnded(_ reason: StreamEnd) {
        listener.metrics.streamsOpen.add(-1)
        listener.metrics.countStreamEnd(reason)
    }

    func runAtEndOfTurn() {
        guard let observer, let streamEnd else { return }
        self.observer = nil
        observer.streamEnded(self, streamEnd)
    }

    // MARK: - Deadlines

    func setDeadline(after delay: Duration) { deadline.set(after: delay, of: self, listener) }

    func clearDeadline() { deadline.clear() }

    func deadlineWasQueued(for step: UInt32) {
        if deadline.wasQueued(for: step, of: self, listener) { deadlinePassed() }
    }

    private func deadlinePassed() {
        switch phase {
        case .receiving:
            guard let partial, !partial.isEmpty else {
                listener.metrics.idleCloses.add()
                flags.insert(.lingers)
                return beginClose()
            }
            requestTimedOut(partial)
        case .flushing:
            listener.metrics.idleCloses.add()
            transport.resetOnClose()
            close()
        case .rejecting: rejectRequest()
        case .lingering: close()
        case .answering, .streaming, .closed: break
        }
    }

    // MARK: - Closing

    /// Closes this side, and the connection once the peer has seen everything or time is up.
    func beginClose() {
        guard flags.contains(.lingers) || transport.endsInBand else { return close() }
        guard transport.closeWriting() else {
            phase = .flushing
            flags.insert(.closesAfterOutput)
            setDeadline(after: listener.settings.idleTimeout)
            return awaitWritable()
        }
        guard flags.contains(.lingers) else { return close() }
        phase = .lingering
        partial = nil
        discardedBytes = 0
        setDeadline(after: listener.settings.lingerTimeout)
        flags.subtract([.awaitsWritable, .readingIsPaused])
        updateInterest()
    }

    /// Closes without an answer, once the peer has read what was sent before.
    func closeGently() {
        guard phase != .closed else { return }
        flags.insert(.lingers)
        beginClose()
    }

    func closeIfIdle() {
        guard phase == .receiving, partial?.isEmpty ?? true else { return }
        flags.insert(.lingers)
        beginClose()
    }

    func stop() {
        let observer = self.observer
        self.observer = nil
        let reason = streamEnd ?? .listenerStopped
        if phase == .streaming { streamHasEnded(reason) }
        close()
        observer?.streamEnded(self, reason)
    }

    /// Closes now, without waiting for the peer.
    func close() {
        guard phase != .closed else { return }
        phase = .closed
        deadline.clear()
        partial = nil
        output = []
        outputStart = 0
        if let registration { listener.loop.deregister(registration, descriptor: transport.number) }
        registration = nil
        transport.close()
        listener.connectionClosed(self)
    }
}
