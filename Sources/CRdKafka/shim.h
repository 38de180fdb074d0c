// rdkafka.h has to come before rdkafka_mock.h, which uses its types without including it.
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
