// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import Glibc
import PosixIO

/// nginx with nchan, one worker and its memory store, where Debian's packages `nginx` and
/// `libnginx-mod-nchan` are installed: a broker that others use, beside node and floor.
final class NchanServer: Sendable {
    let port: UInt16
    let process: ServerProcess
    /// The process that serves.
    let worker: pid_t

    static let subscribePath = "/sub?ch=bench"
    static let publishPath = "/pub?ch=bench"
    private static let module = "/usr/lib/nginx/modules/ngx_nchan_module.so"
    private static let program = "/usr/sbin/nginx"

    static var isInstalled: Bool {
        unsafe access(module, R_OK) == 0 && access(program, X_OK) == 0
    }

    init() throws(BenchmarkError) {
        let directory = try ServerProcess.temporaryDirectory("nchan")
        let port = try ServerProcess.freePort()
        self.port = port
        let configuration = """
            load_module \(Self.module);
            \(getuid() == 0 ? "user root;" : "")
            worker_processes 1;
            daemon off;
            pid \(directory.path)/nginx.pid;
            error_log \(directory.path)/error.log warn;
            events { worker_connections \(DescriptorLimit.raised()); multi_accept on; }
            http {
              access_log off;
              tcp_nodelay on;
              keepalive_requests 1000000000;
              keepalive_timeout 3600s;
              client_header_timeout 3600s;
              client_body_temp_path \(directory.path)/body;
              proxy_temp_path \(directory.path)/proxy;
              fastcgi_temp_path \(directory.path)/fastcgi;
              uwsgi_temp_path \(directory.path)/uwsgi;
              scgi_temp_path \(directory.path)/scgi;
              client_body_buffer_size 64k;
              nchan_shared_memory_size 256M;
              server {
                listen 127.0.0.1:\(port) backlog=4096;
                location = /pub {
                  nchan_publisher;
                  nchan_channel_id $arg_ch;
                  nchan_message_buffer_length 1000;
                  nchan_message_timeout 10m;
                }
                location = /sub {
                  nchan_subscriber eventsource;
                  nchan_channel_id $arg_ch;
                  nchan_subscriber_first_message newest;
                }
                location = /status { nchan_stub_status; }
              }
            }

            """
        let file: String
        do throws(Errno) {
            file = try directory.write(configuration, to: "nginx.conf")
        } catch {
            throw BenchmarkError(.unavailable, "cannot write nginx.conf: \(error)")
        }
        process = try ServerProcess(
            "nchan", in: directory,
            command: [Self.program, "-p", directory.path, "-c", file, "-e", "stderr"]
        ) {
            let answer = try? LoopbackHTTP.get("/status", port: port, within: .seconds(1))
            return answer?.status == 200
        }
        let children = KernelFile.text("/proc/\(process.id)/task/\(process.id)/children")
        guard let first = children.split(separator: " ").first, let worker = pid_t(first) else {
            throw BenchmarkError(.unavailable, "nginx has no worker")
        }
        self.worker = worker
    }

    /// nginx would leave its worker behind when it is killed.
    deinit { _ = kill(worker, SIGKILL) }
}
