import Foundation

#if canImport(Darwin)
    import Darwin
    #if os(iOS) && !targetEnvironment(macCatalyst)
        import os
    #endif
#endif

/// What the app's process takes of the memory, and what is left for it.
public struct MemoryReading: Sendable, Equatable {
    /// Bytes that the process takes, as the system counts them against its limit.
    public let used: Int
    /// Bytes that it may still take, or nil where the system sets no limit.
    public let available: Int?

    public init(used: Int, available: Int?) {
        self.used = used
        self.available = available
    }

    /// For people, such as `1.3 GB used, 2.1 GB left`.
    public var text: String {
        let left = available.map { ", \(byteText($0)) left" } ?? ""
        return "\(byteText(used)) used\(left)"
    }

    /// The reading of now, or nil where the system does not tell.
    public static func now() -> MemoryReading? {
        guard let used = usedBytes() else { return nil }
        #if os(iOS) && !targetEnvironment(macCatalyst)
            // Simulators say 0, which a device says only to a program that it ends.
            let available = Int(os_proc_available_memory())
            return MemoryReading(used: used, available: available > 0 ? available : nil)
        #else
            return MemoryReading(used: used, available: nil)
        #endif
    }

    #if canImport(Darwin)
        // Not `mach_task_self_`: a global variable, which strict checking refuses with some SDKs.
        // Asked for once, for each call takes another reference to the port.
        private static let thisTask: mach_port_t = task_self_trap()

        private static func usedBytes() -> Int? {
            var info = task_vm_info_data_t()
            let words = MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size
            var count = mach_msg_type_number_t(words)
            let status = withUnsafeMutablePointer(to: &info) { pointer in
                pointer.withMemoryRebound(to: integer_t.self, capacity: words) { integers in
                    task_info(thisTask, task_flavor_t(TASK_VM_INFO), integers, &count)
                }
            }
            return status == KERN_SUCCESS ? Int(info.phys_footprint) : nil
        }
    #else
        private static func usedBytes() -> Int? {
            guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)
            else { return nil }
            for line in status.split(separator: "\n") where line.hasPrefix("VmRSS:") {
                return line.split(whereSeparator: \.isWhitespace).dropFirst().first
                    .flatMap { Int($0) }.map { $0 * 1024 }
            }
            return nil
        }
    #endif
}
