// Field extraction from JSON events over simdjson's DOM parser, as plain C.
//
// All memory is taken by sj_extractor_new and sj_extractor_add_path; an event costs no allocation.
// No C++ exception crosses this boundary. An extractor is used by one thread at a time.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    // Paths of one extractor: the children found so far are one 64-bit set.
    SJ_PATHS_MAX = 64,
    // Values taken from one event for one path; what is beyond is left out and reported.
    SJ_ENTRIES_PER_PATH = 64
};

// What an event turned out to be.
enum {
    SJ_OBJECT = 0,
    SJ_NOT_AN_OBJECT,
    SJ_TOO_LARGE,
    SJ_INVALID_UTF8,
    SJ_EMPTY,
    SJ_TOO_DEEP,
    SJ_BAD_STRING,
    SJ_BAD_NUMBER,
    SJ_BAD_LITERAL,
    SJ_BAD_STRUCTURE
};

// What an entry holds.
enum { SJ_NULL = 0, SJ_BOOL, SJ_INT64, SJ_UINT64, SJ_DOUBLE, SJ_TEXT, SJ_CONTAINER };

typedef struct {
    // SJ_BOOL: 0 or 1. SJ_INT64, SJ_UINT64, SJ_DOUBLE: the bits of the number.
    uint64_t bits;
    // SJ_TEXT: unescaped UTF-8, which may hold NUL; valid until the extractor's next event.
    const uint8_t *text;
    uint32_t text_length;
    uint32_t kind;
} sj_entry;

// One value of a document that is read whole. Texts are valid until the extractor's next event.
typedef struct {
    // The key in the outermost object that leads to the value's own object; NULL for none.
    const uint8_t *group;
    const uint8_t *key;
    uint32_t group_length;
    uint32_t key_length;
    // SJ_CONTAINER where an array is empty or nested, or an object lies deeper than two levels.
    sj_entry value;
} sj_member;

typedef struct sj_extractor sj_extractor;

// Takes events of up to event_bytes_max bytes with containers nested up to depth_max levels; an
// empty container costs no level.
// NULL when there is no memory for it.
sj_extractor *sj_extractor_new(size_t event_bytes_max, size_t depth_max);
void sj_extractor_free(sj_extractor *extractor);

// Adds a path of keys separated by dots. Its column is the number of paths added before.
// 0, or -1 when there is no memory or no room for another path.
int sj_extractor_add_path(sj_extractor *extractor, const uint8_t *dotted, size_t length);

// Checks the whole event. Returns one of SJ_OBJECT ... SJ_BAD_STRUCTURE.
int sj_extractor_validate(sj_extractor *extractor, const uint8_t *event, size_t length);

// Checks the whole event and writes the values of column c to
// entries[c * SJ_ENTRIES_PER_PATH ...], counts[c] of them, in the order of the event.
// counts is all zero unless SJ_OBJECT is returned. *left_out is the number of values for which
// there was no room.
int sj_extractor_extract(sj_extractor *extractor, const uint8_t *event, size_t length,
                         sj_entry *entries, uint32_t *counts, uint64_t *left_out);

// Checks the whole document and writes its values in order to members, at most members_max of
// them: those of the outermost object, and those of the objects in it. An array gives one member
// for each of its elements. *count is how many there are; more than members_max were left out.
int sj_extractor_members(sj_extractor *extractor, const uint8_t *document, size_t length,
                         sj_member *members, size_t members_max, size_t *count);

#ifdef __cplusplus
}
#endif
