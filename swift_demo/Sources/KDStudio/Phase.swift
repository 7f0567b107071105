/// What the app is doing.
public enum Phase: Sendable, Equatable {
    /// There is no bundle to draw with.
    case noBundle
    /// The models of a bundle are loaded; the first time on a system they are compiled, which may
    /// take minutes.
    case loading
    /// It can draw.
    case ready
    /// It draws.
    case drawing(DrawingProgress)
    /// The system ran short of memory, so the models were freed.
    case outOfMemory
    /// Something failed; the message says what, and what to do.
    case failed(String)

    /// Whether models are at work.
    public var isBusy: Bool {
        switch self {
        case .loading, .drawing: true
        case .noBundle, .ready, .outOfMemory, .failed: false
        }
    }
}

/// How far a picture is.
public struct DrawingProgress: Sendable, Equatable {
    /// Calls of the U-Net that are done.
    public var done = 0
    /// Calls of the U-Net in all; 0 until it is known.
    public var total = 0
    /// Whether the user has cancelled and the call under way is awaited.
    public var isCancelling = false

    /// Share of the calls, 0 to 1.
    public var fraction: Double { total > 0 ? Double(done) / Double(total) : 0 }

    /// Whether all steps are done and the picture is decoded.
    public var isDecoding: Bool { total > 0 && done == total }
}
