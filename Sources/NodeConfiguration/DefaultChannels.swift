// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// The channels of a node that is given none.
package enum DefaultChannels {
    /// As they would stand in a file. Read by the same parser as any file, so what is refused
    /// there is refused here. Filters are shared by anchors, as they can be in a file.
    package static let document = """
        channels:
          # Traffic cameras and what is seen on them: status changes and detections together.
          - name: cameras
            description: Camera status and detection events.
            topics: [its.camera.events, its.detections]
            event: camera_update
            filters: &detection_filters
              - parameter: camera_ids
                fields: [camera_id]
                operation: one_of
                description: Cameras, separated by commas.
              - parameter: event_types
                fields: [event_type]
                operation: one_of
                description: Event types, separated by commas.
              - parameter: zones
                fields: [zone_id]
                operation: one_of
                description: Zones, separated by commas.
              # One detection carries `confidence`, a frame with several `confidence_scores`; the
              # best of them counts.
              - parameter: min_confidence
                fields: [confidence, confidence_scores]
                operation: at_least
                description: The least confidence, from 0 to 1.
              - parameter: vehicle_types
                fields: [vehicle_class, vehicle_classes]
                operation: one_of
                description: Classes of vehicle, separated by commas.

          # The detections alone, for whoever does not want the cameras' own status.
          - name: detections
            description: Detection results.
            topics: [its.detections]
            event: detection_update
            filters: *detection_filters

          # How the system itself does; Rivulet's own numbers arrive here as well.
          - name: system
            description: System alerts and performance metrics.
            topics: [its.system.alerts, its.system.metrics]
            event: system_update
            filters:
              - parameter: event_types
                fields: [event_type]
                operation: one_of
                description: Event types, separated by commas.
              - parameter: services
                fields: [service_name]
                operation: one_of
                description: Services, separated by commas.
              - parameter: nodes
                fields: [node]
                operation: one_of
                description: Nodes, separated by commas.
              - parameter: severities
                fields: [severity]
                operation: one_of
                description: Severities, separated by commas.

          # Traffic analytics and flow. The type of an analysis is in either field.
          - name: analytics
            description: Traffic analytics and flow data.
            topics: [its.analytics]
            event: analytics_update
            filters:
              - parameter: zones
                fields: [zone_id]
                operation: one_of
                description: Zones, separated by commas.
              - parameter: camera_ids
                fields: [camera_id]
                operation: one_of
                description: Cameras, separated by commas.
              - parameter: event_types
                fields: [event_type]
                operation: one_of
                description: Event types, separated by commas.
              - parameter: analytics_types
                fields: [analytics_type, event_type]
                operation: one_of
                description: Kinds of analysis, separated by commas.
              - parameter: vehicle_types
                fields: [vehicle_class, vehicle_classes]
                operation: one_of
                description: Classes of vehicle, separated by commas.

          # Project work: file_change, commit, progress_update, risk_alert, task_update,
          # system_status. A browser listens to each by its own name.
          - name: projects
            description: Changes, progress, tasks and risks of projects.
            topics: [projects.events]
            event:
              field: event_type
              fallback: project_event
            filters: &project_filters
              - parameter: event_types
                fields: [event_type]
                operation: one_of
                description: Event types, separated by commas.
              - parameter: project_id
                fields: [project_id]
                operation: one_of
                description: Projects, separated by commas.

          # Time-lapse cameras: image_captured, camera_status_changed,
          # timelapse_status_changed.
          - name: timelapse
            description: Captured images and changes of cameras and time-lapses.
            topics: [timelapse.events]
            event:
              field: event_type
              fallback: message
            filters:
              - parameter: event_types
                fields: [event_type]
                operation: one_of
                description: Event types, separated by commas.
              - parameter: camera_id
                fields: [camera_id]
                operation: one_of
                description: Cameras, separated by commas.
              - parameter: timelapse_id
                fields: [timelapse_id]
                operation: one_of
                description: Time-lapses, separated by commas.
              - parameter: priority
                fields: [priority]
                operation: one_of
                description: Priorities, separated by commas.
              - parameter: source
                fields: [source]
                operation: one_of
                description: Sources, separated by commas.

          # Surveillance: motion.detected, face.recognized, alert.triggered.
          - name: security
            description: Motion, recognized faces and alerts.
            topics: [motion.detection.events, face.recognition.events, alert.events]
            event:
              field: event_type
              fallback: message
            filters:
              - parameter: event_types
                fields: [event_type]
                operation: one_of
                description: Event types, separated by commas.
              - parameter: camera_id
                fields: [camera_id]
                operation: one_of
                description: Cameras, separated by commas.
              - parameter: alert_level
                fields: [alert_level]
                operation: one_of
                description: Alert levels, separated by commas.
              - parameter: min_confidence
                fields: [confidence, confidence_scores]
                operation: at_least
                description: The least confidence, from 0 to 1.

        patterns:
          # Any Kafka topic of such a name is a channel of that name, with no configuration.
          - topics: events.*
            description: Topics that are served as they are named.
            event:
              field: event_type
              fallback: message
            filters: *project_filters

        """

    package static var channels: [ChannelConfiguration] { parsed.channels }

    package static var patterns: [PatternConfiguration] { parsed.patterns }

    private static let parsed = parse(document)

    /// Traps on an error: the document is part of the program.
    private static func parse(
        _ document: String
    ) -> (
        channels: [ChannelConfiguration], patterns: [PatternConfiguration]
    ) {
        var errors = ErrorList()
        let root = YAMLComposer.compose(Array(document.utf8), from: .builtIn, errors: &errors)
        var reader = ChannelReader(source: .builtIn)
        var channels: [ChannelConfiguration] = []
        var patterns: [PatternConfiguration] = []
        if case .mapping(let entries) = root?.content {
            for entry in entries where entry.key == "channels" {
                channels = reader.channels(entry.value, key: entry.key)
            }
            for entry in entries where entry.key == "patterns" {
                patterns = reader.patterns(entry.value, key: entry.key)
            }
        }
        errors.append(contentsOf: reader.errors)
        precondition(errors.isEmpty, "the default channels: \(errors.errors)")
        return (channels, patterns)
    }
}
