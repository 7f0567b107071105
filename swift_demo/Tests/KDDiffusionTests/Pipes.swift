import Foundation

/// Bytes to and from another process, through two named pipes.
///
/// Nothing here waits for ever: where the other process is not there, dies or is stuck, an error is
/// thrown.
final class Pipes: @unchecked Sendable {
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    private let requests: Int32
    private let replies: Int32
    private let patience: Int32
    private var received: [UInt8] = []
    private var place = 0

    /// Opens `requests` and `replies` in a folder, in the order of `scripts/swift_evaluator.py`.
    ///
    /// - Parameter patience: Seconds to wait for each piece of a message.
    init(folder: URL, patience: Int = 120) throws {
        self.patience = Int32(patience * 1000)
        // Otherwise the tests end with a signal where the evaluator is gone.
        signal(SIGPIPE, SIG_IGN)
        requests = try Pipes.openForWriting(folder.appendingPathComponent("requests").path)
        let path = folder.appendingPathComponent("replies").path
        replies = open(path, O_RDONLY | O_NONBLOCK)
        guard replies >= 0 else {
            close(requests)
            throw Failure(description: "'\(path)' cannot be opened.")
        }
    }

    deinit {
        close(requests)
        close(replies)
    }

    /// Writes all of the bytes.
    func write(_ bytes: [UInt8]) throws {
        var start = 0
        while start < bytes.count {
            try wait(requests, POLLOUT)
            let count = bytes[start...].withUnsafeBytes {
                Foundation.write(requests, $0.baseAddress, $0.count)
            }
            if count < 0 && errno != EAGAIN {
                throw Failure(description: "The evaluator does not read any more.")
            }
            start += max(count, 0)
        }
    }

    /// Reads up to the end of a line, which is left out.
    func readLine() throws -> [UInt8] {
        while true {
            if let end = received[place...].firstIndex(of: UInt8(ascii: "\n")) {
                defer { place = end + 1 }
                return Array(received[place..<end])
            }
            try readMore()
        }
    }

    /// Reads so many bytes.
    func read(_ count: Int) throws -> [UInt8] {
        while received.count - place < count { try readMore() }
        defer { place += count }
        return Array(received[place..<(place + count)])
    }

    private func readMore() throws {
        received.removeFirst(place)
        place = 0
        try wait(replies, POLLIN)
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        let count = Foundation.read(replies, &buffer, buffer.count)
        if count < 0 && errno == EAGAIN { return }
        guard count > 0 else { throw Failure(description: "The evaluator has ended.") }
        received += buffer[..<count]
    }

    private func wait(_ pipe: Int32, _ events: Int32) throws {
        var polled = pollfd(fd: pipe, events: Int16(events), revents: 0)
        guard poll(&polled, 1, patience) > 0 else {
            throw Failure(description: "The evaluator did not answer in time.")
        }
    }

    /// Opens a pipe that a process reads, which may still be about to open it.
    private static func openForWriting(_ path: String) throws -> Int32 {
        for _ in 0..<300 {
            let pipe = open(path, O_WRONLY | O_NONBLOCK)
            if pipe >= 0 { return pipe }
            usleep(100_000)
        }
        throw Failure(description: "No evaluator reads '\(path)'.")
    }
}
