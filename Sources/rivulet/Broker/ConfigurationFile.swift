// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import NodeConfiguration

/// The nodes' configuration, for the commands that need to know channels and brokers too.
enum ConfigurationFile {
    /// Reads the configuration that a node would run with: `--config`, else `RIVULET_CONFIG`, else
    /// none, and over it the `RIVULET_…` variables.
    static func load(_ arguments: ParsedArguments) throws(ProgramError) -> Configuration {
        do {
            return try Configuration.load(
                file: arguments.value(KafkaOptions.configuration.name),
                environment: Environment.all, arguments: [])
        } catch {
            throw ProgramError(.configurationInvalid, error.description)
        }
    }
}
