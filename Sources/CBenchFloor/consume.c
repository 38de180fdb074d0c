// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

#include "CBenchFloor.h"
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <time.h>

enum { RECORDS_PER_CALL = 1000 };

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static rd_kafka_t *start(const char *bootstrap, char *error, size_t error_size) {
    // As the node's consumer is set where it matters here: the embedded broker does not wake a
    // fetch when a record arrives.
    static const char *const settings[][2] = {
        {"group.id", "bench-bare"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "earliest"},
        {"fetch.wait.max.ms", "5"},
        {"log_level", "2"},
    };
    rd_kafka_conf_t *configuration = rd_kafka_conf_new();
    if (rd_kafka_conf_set(configuration, "bootstrap.servers", bootstrap, error, error_size)) {
        rd_kafka_conf_destroy(configuration);
        return NULL;
    }
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        if (rd_kafka_conf_set(configuration, settings[i][0], settings[i][1], error, error_size)) {
            rd_kafka_conf_destroy(configuration);
            return NULL;
        }
    }
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_CONSUMER, configuration, error, error_size);
    if (!client) {
        rd_kafka_conf_destroy(configuration);
        return NULL;
    }
    rd_kafka_poll_set_consumer(client);
    return client;
}

static int consume(rd_kafka_queue_t *queue, int64_t wanted, int limit_ms,
                   struct benchfloor_consumed *result, char *error, size_t error_size) {
    static rd_kafka_message_t *messages[RECORDS_PER_CALL];
    int64_t deadline = now_ns() + (int64_t)limit_ms * 1000000;
    while (result->records < wanted) {
        if (now_ns() > deadline) {
            snprintf(error, error_size, "%lld of %lld records after %d ms",
                     (long long)result->records, (long long)wanted, limit_ms);
            return -1;
        }
        ssize_t count = rd_kafka_consume_batch_queue(queue, 5, messages, RECORDS_PER_CALL);
        if (count < 0) {
            snprintf(error, error_size, "%s", rd_kafka_err2str(rd_kafka_last_error()));
            return -1;
        }
        for (ssize_t i = 0; i < count; i++) {
            if (messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                if (result->records == 0) result->first_ns = now_ns();
                result->records++;
                result->bytes += (int64_t)messages[i]->len;
            }
            rd_kafka_message_destroy(messages[i]);
        }
    }
    result->last_ns = now_ns();
    return 0;
}

int benchfloor_consume(const char *bootstrap, const char *topic, int partitions, int64_t wanted,
                       int limit_ms, struct benchfloor_consumed *result, char *error,
                       size_t error_size) {
    *result = (struct benchfloor_consumed){0};
    rd_kafka_t *client = start(bootstrap, error, error_size);
    if (!client) return -1;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int i = 0; i < partitions; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_resp_err_t code = rd_kafka_assign(client, list);
    rd_kafka_topic_partition_list_destroy(list);
    int outcome = -1;
    if (code) {
        snprintf(error, error_size, "%s", rd_kafka_err2str(code));
    } else {
        rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(client);
        outcome = consume(queue, wanted, limit_ms, result, error, error_size);
        rd_kafka_queue_destroy(queue);
    }
    rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return outcome;
}
