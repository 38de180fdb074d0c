// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// What a ``KafkaConsumer`` has to say, in the order it happened.
///
/// Lent for one call: look at it with `switch`, because `if case` would have to consume it.
package enum KafkaEvent: ~Copyable {
    case record(KafkaRecord)
    /// The group gives these partitions to this member. Answer with
    /// ``KafkaConsumer/completeAssignment(_:)``, now or later; until then no record of any
    /// partition arrives, and the group waits. The list may be empty and is answered all the same.
    case assigned([TopicPartition])
    /// The group takes these partitions. Answer with
    /// ``KafkaConsumer/completeRevocation(_:)``. `lost`: another member may have them already.
    case revoked([TopicPartition], lost: Bool)
    /// The partition does not hold the offset it was to be read from. It is not read until
    /// ``KafkaConsumer/reposition(_:to:)``.
    case offsetOutOfRange(TopicPartition, offset: Int64)
    /// ``KafkaOffset/committed`` was asked for and the group has committed nothing. The partition
    /// is not read until ``KafkaConsumer/reposition(_:to:)``.
    case positionMissing(TopicPartition)
    case partitionError(TopicPartition, KafkaError)
    /// No broker is reachable. librdkafka goes on trying.
    case brokersDown(KafkaError)
    /// Anything else. Where ``KafkaError/isFatal``, close the consumer and create a new one.
    case error(KafkaError)
    /// A commit failed for a reason that will not pass with the rebalance; its offsets go with
    /// the next one.
    case commitFailed(KafkaError)
}
