import Dispatch

/// How short of memory the system is, as it says itself.
public enum MemoryPressure: Sendable, Equatable {
    /// Memory that can be had again should be freed.
    case warning
    /// The system will soon end programs.
    case critical

    /// What the system says from now on: a hint to free models that are not in use.
    ///
    /// - Returns: A stream that ends when its reader does; on other systems than Apple's it ends at
    ///   once.
    public static func events() -> AsyncStream<MemoryPressure> {
        AsyncStream { continuation in
            #if canImport(Darwin)
                let source = PressureSource(continuation)
                continuation.onTermination = { _ in source.cancel() }
            #else
                continuation.finish()
            #endif
        }
    }
}

#if canImport(Darwin)
    // Dispatch sources may be used from any thread; nothing else is in here.
    private final class PressureSource: @unchecked Sendable {
        private let source: any DispatchSourceMemoryPressure

        init(_ continuation: AsyncStream<MemoryPressure>.Continuation) {
            source = DispatchSource.makeMemoryPressureSource(
                eventMask: [.warning, .critical], queue: .global(qos: .utility))
            source.setEventHandler { [weak self] in
                guard let self else { return }
                continuation.yield(self.source.data.contains(.critical) ? .critical : .warning)
            }
            source.resume()
        }

        func cancel() { source.cancel() }
    }
#endif
