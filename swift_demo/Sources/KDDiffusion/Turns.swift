/// Lets one piece of work run at a time; the others wait in the order of their calls.
///
/// An actor alone does not: while it awaits, other calls enter it.
struct Turns: Sendable {
    private let queue = TurnQueue()

    /// Waits for its turn and works.
    ///
    /// - Throws: What `body` throws; `CancellationError` where the task is cancelled before its
    ///   turn comes.
    func take<Result: Sendable>(
        isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Result
    ) async throws -> Result {
        try await queue.begin()
        do {
            let result = try await body()
            await queue.end()
            return result
        } catch {
            await queue.end()
            throw error
        }
    }

    /// Waits for its turn even where the task is cancelled, and works.
    func takeAlways(
        isolation: isolated (any Actor)? = #isolation, _ body: () async -> Void
    ) async {
        await queue.beginAlways()
        await body()
        await queue.end()
    }
}

/// Who waits for a turn.
private actor TurnQueue {
    private var isTaken = false
    private var nextID = 0
    private var waiting: [(id: Int, resume: CheckedContinuation<Bool, Never>)] = []

    func begin() async throws {
        try Task.checkCancellation()
        let id = newID()
        let gotTurn = await withTaskCancellationHandler {
            await turn(id)
        } onCancel: {
            Task { await self.cancel(id) }
        }
        guard gotTurn else { throw CancellationError() }
    }

    func beginAlways() async {
        _ = await turn(newID())
    }

    /// Hands the turn to whoever has waited longest.
    func end() {
        if waiting.isEmpty {
            isTaken = false
        } else {
            waiting.removeFirst().resume.resume(returning: true)
        }
    }

    private func newID() -> Int {
        nextID += 1
        return nextID
    }

    /// Whether the turn came; false where the wait was cancelled.
    private func turn(_ id: Int) async -> Bool {
        if !isTaken {
            isTaken = true
            return true
        }
        return await withCheckedContinuation { waiting.append((id, $0)) }
    }

    private func cancel(_ id: Int) {
        guard let index = waiting.firstIndex(where: { $0.id == id }) else { return }
        waiting.remove(at: index).resume.resume(returning: false)
    }
}
