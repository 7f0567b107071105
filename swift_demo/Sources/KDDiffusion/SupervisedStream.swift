/// A stream of what a piece of work reports, which ends when the work has stopped.
///
/// The work runs in a task of its own, which is cancelled when the task that iterates is, or when
/// the stream is dropped. A stream with a continuation alone would end without an error where the
/// task that waits for it is cancelled, while the work may still be under way.
func supervisedStream<Event: Sendable>(
    _ work: @escaping @Sendable (@escaping @Sendable (Event) -> Void) async throws -> Void
) -> AsyncThrowingStream<Event, any Error> {
    let (events, continuation) = AsyncThrowingStream<Event, any Error>.makeStream()
    let task = Task {
        do {
            try await work { continuation.yield($0) }
            continuation.finish()
        } catch {
            continuation.finish(throwing: error)
        }
    }
    continuation.onTermination = { _ in task.cancel() }
    return AsyncThrowingStream {
        // Iterators of one stream share its events.
        var iterator = events.makeAsyncIterator()
        if let event = try await iterator.next() { return event }
        await task.value
        try Task.checkCancellation()
        return nil
    }
}
