import Foundation
import KDDiffusion
import KDNumerics
@testable import KDStudio

/// Stands in for a pipeline: counts, waits and fails as a test wants.
actor FakeDrawer: Drawer {
    struct Failure: LocalizedError { var errorDescription: String? { "It broke." } }

    /// What it does.
    enum Behaviour: Sendable {
        case draws, failsToLoad, failsToDraw, waitsWhileLoading, waitsWhileDrawing
    }

    nonisolated let behaviour: Behaviour
    nonisolated let plan: Plan
    private(set) var loads = 0
    private(set) var unloads = 0

    init(_ behaviour: Behaviour, plan: Plan) {
        self.behaviour = behaviour
        self.plan = plan
    }

    func prepare() async throws {
        loads += 1
        if behaviour == .failsToLoad { throw Failure() }
        if behaviour == .waitsWhileLoading { try await Task.sleep(for: .seconds(60)) }
    }

    func unload() { unloads += 1 }

    nonisolated func generate(
        _ request: Request
    ) -> AsyncThrowingStream<GenerationEvent, any Error> {
        AsyncThrowingStream { told in
            let task = Task {
                do {
                    try await self.draw(request) { told.yield($0) }
                    told.finish()
                } catch {
                    told.finish(throwing: error)
                }
            }
            told.onTermination = { _ in task.cancel() }
        }
    }

    private func draw(_ request: Request, tell: (GenerationEvent) -> Void) async throws {
        tell(.started(plan))
        let picture = try Picture(width: 1, height: 1, pixels: [9, 9, 9])
        for index in 0..<2 {
            tell(.step(StepReport(
                index: index, total: 2, timestep: 1, latents: Tensor(repeating: 0, shape: [1]),
                preview: index == 0 ? picture : nil)))
            if behaviour == .waitsWhileDrawing { try await Task.sleep(for: .seconds(60)) }
        }
        if behaviour == .failsToDraw { throw Failure() }
        tell(.finished(Array(repeating: picture, count: request.imagesPerPrompt), plan))
    }
}
