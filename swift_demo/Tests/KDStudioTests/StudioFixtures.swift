import Foundation
@testable import KDDiffusion
import KDNumerics
@testable import KDStudio
import XCTest

/// What a studio's environment was asked for.
final class Drawers: @unchecked Sendable {
    private let lock = NSLock()
    private let behaviour: FakeDrawer.Behaviour
    private var drawers: [FakeDrawer] = []
    private var choices: [Bool] = []
    private var models: [String] = []

    init(_ behaviour: FakeDrawer.Behaviour = .draws) { self.behaviour = behaviour }

    var made: [FakeDrawer] { lock.withLock { drawers } }
    var reduced: [Bool] { lock.withLock { choices } }
    var forgotten: [String] { lock.withLock { models } }

    func make(reducedMemory: Bool) -> FakeDrawer {
        let drawer = FakeDrawer(behaviour, plan: plan)
        lock.withLock {
            drawers.append(drawer)
            choices.append(reducedMemory)
        }
        return drawer
    }

    func forget(_ manifest: Manifest) { lock.withLock { models.append(manifest.source.model) } }
}

extension StudioTests {
    /// A studio with made-up bundles in a folder of its own.
    func makeStudio(_ drawers: Drawers = Drawers(), bundles: Int = 1) throws -> Studio {
        let root = try temporaryFolder(self)
        let library = BundleLibrary(folder: root.appendingPathComponent("bundles"))
        for index in 0..<bundles {
            try BundleRecipe().write(library.folder.appendingPathComponent("bundle \(index)"))
        }
        return Studio(
            environment: StudioEnvironment(
                library: library, gallery: Gallery(folder: root.appendingPathComponent("pictures")),
                makeDrawer: { drawers.make(reducedMemory: $1) },
                encodePNG: { Data("\($0.width)x\($0.height)".utf8) },
                forget: { drawers.forget($0) },
                memory: { nil }, now: { Date(timeIntervalSince1970: 1_800_000_000) }))
    }

    /// Waits until something is so.
    func wait(_ condition: () -> Bool) async throws {
        for _ in 0..<1000 {
            if condition() { return }
            try await Task.sleep(for: .milliseconds(5))
        }
        XCTFail("It never came.")
    }
}

private let plan = Plan(
    prompts: ["a cup"], negatives: [""], steps: 20, guidance: 2, seed: 77,
    size: PixelSize(width: 128, height: 128), imagesPerPrompt: 1, scheduler: "default",
    latentShape: [1, 4, 16, 16], latents: nil, initial: nil, strength: 1, guidanceSize: nil,
    control: nil, previews: .never, truncations: [Truncation(text: "a cup", removed: "the end")])
