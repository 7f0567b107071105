import Foundation
@testable import KDDiffusion
import KDNumerics
@testable import KDStudio
import XCTest

// Unchecked: on Linux the tests are called from outside of the main actor, and nothing is shared.
@MainActor
final class StudioTests: XCTestCase, @unchecked Sendable {
    func testHasNoBundleAtFirst() async throws {
        let studio = try makeStudio(bundles: 0)
        await studio.start()
        XCTAssertEqual(studio.phase, .noBundle)
        XCTAssertFalse(studio.canDraw)
        studio.draw()
        XCTAssertEqual(studio.phase, .noBundle)
    }

    func testDrawsAndStores() async throws {
        let drawers = Drawers()
        let studio = try makeStudio(drawers)
        await studio.start()
        XCTAssertEqual(studio.phase, .ready)
        await studio.start()
        XCTAssertEqual(drawers.made.count, 1)
        XCTAssertEqual(studio.settings.steps, 20)
        XCTAssertEqual(studio.problems, [.noPrompt])
        XCTAssertFalse(studio.canDraw)
        studio.settings.prompt = "a cup"
        studio.settings.images = 2
        studio.draw()
        XCTAssertTrue(studio.phase.isBusy)
        XCTAssertFalse(studio.canDraw)
        await studio.work?.value
        XCTAssertEqual(studio.phase, .ready)
        XCTAssertEqual(studio.latest.map(\.index), [0, 1])
        XCTAssertEqual(studio.items, studio.latest)
        XCTAssertEqual(studio.gallery.items().count, 2)
        let item = try XCTUnwrap(studio.latest.first)
        XCTAssertEqual(item.settings.seed, 77)
        XCTAssertEqual(item.settings.prompt, "a cup")
        XCTAssertEqual(item.model, "tiny")
        XCTAssertEqual(studio.notice?.contains("the end"), true)
        XCTAssertEqual(
            try Data(contentsOf: studio.gallery.picture(of: item)), Data("1x1".utf8))
        studio.settings.prompt = "another"
        studio.reuse(item)
        XCTAssertEqual(studio.settings.prompt, "a cup")
        XCTAssertEqual(studio.settings.seed, 77)
        await studio.remove(item)
        XCTAssertEqual(studio.items.count, 1)
        XCTAssertEqual(studio.latest.count, 1)
    }

    func testShowsStepsAndCanBeCancelled() async throws {
        let studio = try makeStudio(Drawers(.waitsWhileDrawing))
        await studio.start()
        studio.settings.prompt = "a cup"
        studio.draw()
        try await wait { studio.preview != nil }
        XCTAssertEqual(studio.phase, .drawing(DrawingProgress(done: 1, total: 2)))
        studio.cancel()
        XCTAssertEqual(
            studio.phase, .drawing(DrawingProgress(done: 1, total: 2, isCancelling: true)))
        await studio.work?.value
        XCTAssertEqual(studio.phase, .ready)
        XCTAssertNil(studio.preview)
        XCTAssertEqual(studio.items, [])
    }

    func testSaysWhatFailed() async throws {
        let drawers = Drawers(.failsToDraw)
        let studio = try makeStudio(drawers)
        await studio.start()
        studio.settings.prompt = "a cup"
        studio.draw()
        await studio.work?.value
        XCTAssertEqual(studio.phase, .failed("It broke."))
        XCTAssertTrue(studio.canDraw)
        let broken = try makeStudio(Drawers(.failsToLoad))
        await broken.start()
        XCTAssertEqual(broken.phase, .failed("It broke."))
    }

    func testGivesUpWhereMemoryIsShort() async throws {
        let drawers = Drawers(.waitsWhileDrawing)
        let studio = try makeStudio(drawers)
        await studio.start()
        studio.settings.prompt = "a cup"
        studio.draw()
        try await wait { studio.preview != nil }
        await studio.memoryIsShort(critical: false)
        XCTAssertTrue(studio.phase.isBusy)
        await studio.memoryIsShort(critical: true)
        XCTAssertEqual(studio.phase, .outOfMemory)
        XCTAssertTrue(studio.reducedMemory)
        let drawer = try XCTUnwrap(drawers.made.first)
        let unloads = await drawer.unloads
        XCTAssertEqual(unloads, 1)
        XCTAssertTrue(studio.canDraw)
        studio.draw()
        try await wait { drawers.reduced == [false, true] }
        await studio.enterBackground()
        XCTAssertEqual(studio.phase, .ready)
        XCTAssertEqual(studio.notice?.contains("background"), true)
        await studio.memoryIsShort(critical: false)
        let last = try XCTUnwrap(drawers.made.last)
        let freed = await last.unloads
        XCTAssertEqual(freed, 1)
    }

    func testLoadsAnewWhereLessMemoryIsChosen() async throws {
        let drawers = Drawers()
        let studio = try makeStudio(drawers)
        await studio.start()
        await studio.setReducedMemory(true)
        await studio.setReducedMemory(true)
        XCTAssertEqual(drawers.reduced, [false, true])
        XCTAssertEqual(studio.phase, .ready)
        await studio.reload()
        XCTAssertEqual(drawers.reduced, [false, true, true])
    }

    func testTheLastOfTwoBundlesIsOpen() async throws {
        let drawers = Drawers(.waitsWhileLoading)
        let studio = try makeStudio(drawers, bundles: 2)
        let started = Task { await studio.start() }
        try await wait { drawers.made.count == 1 }
        XCTAssertEqual(studio.phase, .loading)
        let second = try XCTUnwrap(studio.entries.last)
        let opened = Task { await studio.open(second) }
        try await wait { drawers.made.count == 2 }
        await started.value
        XCTAssertEqual(studio.current?.id, second.id)
        XCTAssertEqual(studio.phase, .loading)
        studio.cancel()
        await opened.value
        XCTAssertEqual(studio.phase, .ready)
    }

    func testAddsAndRemovesBundles() async throws {
        let root = try temporaryFolder(self)
        let recipe = BundleRecipe(model: "a/picked")
        let picked = try recipe.write(root.appendingPathComponent("picked"))
        let drawers = Drawers()
        let studio = try makeStudio(drawers, bundles: 0)
        await studio.start()
        await studio.add(root)
        XCTAssertEqual(studio.notice?.contains("no kdexport bundle"), true)
        await studio.add(picked)
        XCTAssertNil(studio.adding)
        XCTAssertEqual(studio.phase, .ready)
        XCTAssertEqual(studio.current?.title, "picked")
        let entry = try XCTUnwrap(studio.current)
        await studio.remove(entry)
        XCTAssertEqual(studio.phase, .noBundle)
        XCTAssertNil(studio.rules)
        XCTAssertEqual(studio.entries.count, 0)
        XCTAssertEqual(drawers.forgotten, ["a/picked"])
    }

    func testOpensTheBundleOfLastTime() async throws {
        let studio = try makeStudio(bundles: 2)
        await studio.start(preferred: "imported/bundle 1")
        XCTAssertEqual(studio.current?.name, "bundle 1")
        studio.settings.steps = 7
        studio.choose(sampler: "fast")
        XCTAssertEqual(studio.settings.steps, 4)
    }

    func testFieldsStandForTheSettings() async throws {
        let drawers = Drawers()
        let studio = try makeStudio(drawers)
        XCTAssertEqual(studio.stepChoices, [20])
        await studio.start()
        studio.negativeText = "blurry"
        XCTAssertEqual(studio.settings.negativePrompt, "blurry")
        studio.negativeText = ""
        XCTAssertNil(studio.settings.negativePrompt)
        studio.seedText = "12"
        XCTAssertEqual(studio.settings.seed, 12)
        XCTAssertEqual(studio.seedText, "12")
        studio.seedText = "twelve"
        XCTAssertNil(studio.settings.seed)
        studio.sampler = "fast"
        XCTAssertEqual(studio.stepChoices, [1, 4])
        XCTAssertEqual(studio.stepIndex, 1)
        studio.stepIndex = 0
        XCTAssertEqual(studio.settings.steps, 1)
        studio.stepIndex = 9
        XCTAssertEqual(studio.settings.steps, 4)
        studio.size = PixelSize(width: 64, height: 192)
        XCTAssertEqual([studio.settings.width, studio.settings.height], [64, 192])
        XCTAssertEqual([studio.strength, studio.controlScale], [0.8, 1])
        studio.strength = 0.25
        XCTAssertEqual(studio.settings.strength, 0.25)
        studio.notice = "Note"
        studio.hasNotice = false
        XCTAssertNil(studio.notice)
        studio.wantsReducedMemory = true
        try await wait { drawers.reduced == [false, true] }
    }
}
