// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka

/// A record as it came from Kafka, lent for the duration of one call.
///
/// The bytes are librdkafka's; nothing is copied. They go when the value goes.
@safe
package struct KafkaRecord: ~Copyable {
    private let event: OpaquePointer
    private let message: UnsafePointer<rd_kafka_message_t>

    /// Takes over a fetch event.
    ///
    /// - Returns: `nil` where it holds no record; the event stays the caller's then.
    init?(_ event: OpaquePointer) {
        guard let message = unsafe rd_kafka_event_message_next(event) else { return nil }
        unsafe self.event = event
        unsafe self.message = message
    }

    deinit { unsafe rd_kafka_event_destroy(event) }

    /// Stands for the topic while one of its partitions is assigned: the same number for each of
    /// its records, so that no string is made per record.
    package var topicHandle: UInt { unsafe UInt(bitPattern: message.pointee.rkt) }

    /// The topic's name. Makes a string; use ``topicHandle`` per record.
    package var topic: String {
        unsafe rd_kafka_topic_name(message.pointee.rkt).map { unsafe String(cString: $0) } ?? ""
    }

    package var partition: Int32 { unsafe message.pointee.partition }

    package var offset: Int64 { unsafe message.pointee.offset }

    /// Milliseconds since 1970 when the record was created, or appended where the topic says so;
    /// -1 where it carries no time.
    package var timestamp: Int64 { unsafe rd_kafka_message_timestamp(message, nil) }

    /// The key, or `nil` where there is none. An empty key is not `nil`.
    package var key: Span<UInt8>? {
        @_lifetime(borrow self)
        get {
            guard let start = unsafe message.pointee.key else { return nil }
            let span = unsafe Self.span(start, message.pointee.key_len)
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    /// The value; `nil` is a tombstone. An empty value is not `nil`.
    package var value: Span<UInt8>? {
        @_lifetime(borrow self)
        get {
            guard let start = unsafe message.pointee.payload else { return nil }
            let span = unsafe Self.span(start, message.pointee.len)
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    /// Visits the headers in their order, at most `limit` of them.
    ///
    /// - Returns: False where there are more headers than `limit`.
    @discardableResult
    package func forEachHeader(
        limit: Int = 64, _ body: (_ name: Span<UInt8>, _ value: Span<UInt8>?) -> Void
    ) -> Bool {
        var headers: OpaquePointer?
        // The headers stay the message's; the cast is librdkafka's missing const.
        let mutable = unsafe UnsafeMutablePointer(mutating: message)
        guard unsafe rd_kafka_message_headers(mutable, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR
        else { return true }
        for index in 0...max(0, limit) {
            var name: UnsafePointer<CChar>?
            var value: UnsafeRawPointer?
            var size = 0
            let code = unsafe rd_kafka_header_get_all(headers, index, &name, &value, &size)
            guard code == RD_KAFKA_RESP_ERR_NO_ERROR, let name = unsafe name else { return true }
            guard index < limit else { return false }
            let nameSpan = unsafe Self.span(UnsafeRawPointer(name), cStringLength(name))
            if let value = unsafe value {
                unsafe body(nameSpan, Self.span(value, size))
            } else {
                body(nameSpan, nil)
            }
        }
        return true
    }

    @_lifetime(immortal)
    private static func span(_ start: UnsafeRawPointer, _ count: Int) -> Span<UInt8> {
        let buffer = unsafe UnsafeBufferPointer(
            start: start.assumingMemoryBound(to: UInt8.self), count: count)
        let span = unsafe Span(_unsafeElements: buffer)
        return unsafe _overrideLifetime(span, copying: ())
    }
}

private func cStringLength(_ text: UnsafePointer<CChar>) -> Int {
    var length = 0
    while unsafe text[length] != 0 { length += 1 }
    return length
}
