// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Holds values at small, reusable indices that never mean a value that has gone.
///
/// A key carries the generation of its slot, so a late message for a value that was removed finds
/// nothing instead of the slot's next tenant.
///
/// Everything is inlinable, and the type usable from what is inlined, without which the compiler keeps
/// the bodies to itself: across modules a generic type would be worked through the runtime's
/// metadata otherwise, for each socket that is ready and each subscriber that is looked at.
@usableFromInline
package struct Slab<Value> {
    /// Names one value for as long as it lives.
    @usableFromInline
    package struct Key: Sendable, Hashable {
        @usableFromInline package let index: UInt32
        @usableFromInline package let generation: UInt32

        @inlinable
        package init(index: UInt32, generation: UInt32) {
            self.index = index
            self.generation = generation
        }

        /// Both halves in one word, as an epoll tag or a map key.
        @inlinable
        package var packed: UInt64 { UInt64(generation) << 32 | UInt64(index) }

        @inlinable
        package init(packed: UInt64) {
            index = UInt32(truncatingIfNeeded: packed)
            generation = UInt32(truncatingIfNeeded: packed >> 32)
        }
    }

    @usableFromInline
    struct Slot {
        @usableFromInline var value: Value?
        @usableFromInline var generation: UInt32

        @inlinable
        init(value: Value?, generation: UInt32) {
            self.value = value
            self.generation = generation
        }
    }

    @usableFromInline var slots: [Slot] = []
    @usableFromInline var free: [UInt32] = []
    @usableFromInline package internal(set) var count = 0

    @inlinable
    package init() {}

    @inlinable
    package mutating func insert(_ value: Value) -> Key {
        count += 1
        if let index = free.popLast() {
            slots[Int(index)].value = value
            return Key(index: index, generation: slots[Int(index)].generation)
        }
        slots.append(Slot(value: value, generation: 1))
        return Key(index: UInt32(slots.count - 1), generation: 1)
    }

    @inlinable
    package subscript(key: Key) -> Value? {
        get {
            guard Int(key.index) < slots.count else { return nil }
            let slot = slots[Int(key.index)]
            return slot.generation == key.generation ? slot.value : nil
        }
        set {
            guard Int(key.index) < slots.count,
                slots[Int(key.index)].generation == key.generation,
                slots[Int(key.index)].value != nil, newValue != nil
            else { return }
            slots[Int(key.index)].value = newValue
        }
    }

    @discardableResult
    @inlinable
    package mutating func remove(_ key: Key) -> Value? {
        guard Int(key.index) < slots.count, slots[Int(key.index)].generation == key.generation,
            let value = slots[Int(key.index)].value
        else { return nil }
        slots[Int(key.index)].value = nil
        slots[Int(key.index)].generation &+= 1
        free.append(key.index)
        count -= 1
        return value
    }

    /// Calls `body` with every value, in slot order.
    @inlinable
    package func forEach(_ body: (Key, Value) -> Void) {
        forEach(from: 0, by: 1, body)
    }

    /// Calls `body` with the values of every `step`th slot from `first` on: a share of all that
    /// leaves the others untouched.
    @inlinable
    package func forEach(from first: Int, by step: Int, _ body: (Key, Value) -> Void) {
        var index = first
        while index < slots.count {
            if let value = slots[index].value {
                body(Key(index: UInt32(index), generation: slots[index].generation), value)
            }
            index += step
        }
    }
}
