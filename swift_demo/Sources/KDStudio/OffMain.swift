/// Does what blocks on another thread than the main one.
func offMain<Value: Sendable>(
    _ work: @escaping @Sendable () throws -> Value
) async throws -> Value {
    try await Task.detached { try work() }.value
}

/// The same for what does not throw.
func offMain<Value: Sendable>(_ work: @escaping @Sendable () -> Value) async -> Value {
    await Task.detached { work() }.value
}
