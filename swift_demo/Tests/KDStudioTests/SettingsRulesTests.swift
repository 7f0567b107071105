import KDDiffusion
import KDNumerics
import KDStudio
import XCTest

final class SettingsRulesTests: XCTestCase {
    func testReadsTheRulesOffTheManifest() throws {
        let rules = try rules()
        XCTAssertEqual(rules.sizes, [PixelSize(width: 128, height: 128)])
        XCTAssertEqual(rules.samplers.map(\.name), ["default", "fast"])
        XCTAssertEqual(rules.samplers.map(\.startsFromPicture), [true, false])
        XCTAssertEqual(rules.steps(of: "fast"), [1, 4])
        XCTAssertEqual(rules.steps(of: "none"), [])
        XCTAssertTrue(rules.takesNegativePrompt && rules.takesStartingPicture)
        XCTAssertFalse(rules.needsControlPicture)
        XCTAssertEqual(rules.defaults.steps, 20)
        XCTAssertEqual(rules.defaults.guidance, 2)
    }

    func testTakesTheSizesOfTheBundle() throws {
        let several = try rules(
            BundleRecipe(height: nil, width: nil, sizes: [[512, 768], [512, 512]]))
        XCTAssertEqual(several.sizes.first, PixelSize(width: 768, height: 512))
        XCTAssertEqual(several.defaults.width, 768)
        var settings = several.defaults
        settings.width = 640
        XCTAssertEqual(several.fitted(settings).width, 768)
        let free = try rules(BundleRecipe(height: nil, width: nil))
        settings = free.defaults
        settings.prompt = "x"
        settings.width = 200
        XCTAssertEqual(free.problems(settings), [.size(PixelSize(width: 200, height: 128))])
        XCTAssertEqual(free.fitted(settings).width, 192)
        settings.width = 3
        XCTAssertEqual(free.fitted(settings).width, 64)
    }

    func testFindsTheNearestSettings() throws {
        let rules = try rules()
        var settings = Settings(
            steps: 30, guidance: .nan, width: 512, height: 512, scheduler: "unknown")
        settings.prompt = "a cup"
        settings.images = 100
        settings.strength = 7
        let fitted = rules.fitted(settings)
        XCTAssertEqual(fitted.scheduler, "default")
        XCTAssertEqual(fitted.steps, 30)
        XCTAssertEqual([fitted.width, fitted.height], [128, 128])
        XCTAssertEqual(fitted.guidance, 2)
        XCTAssertEqual(fitted.images, SettingsRules.mostImages)
        XCTAssertNil(fitted.strength)
        XCTAssertEqual(rules.problems(fitted), [])
        settings.scheduler = "fast"
        XCTAssertEqual(rules.fitted(settings).steps, 4)
    }

    func testNamesEveryProblem() throws {
        let rules = try rules(BundleRecipe(control: true))
        let settings = Settings(
            steps: 3, guidance: 1, width: 1, height: 1, scheduler: "fast")
        let start = ChosenPictures(initial: try picture())
        XCTAssertEqual(rules.problems(settings, pictures: start), [
            .noPrompt, .noControlPicture, .size(PixelSize(width: 1, height: 1)), .steps(3),
            .samplerForPicture("fast"),
        ])
        var other = settings
        other.scheduler = "none"
        XCTAssertEqual(rules.problems(other).last, .sampler("none"))
        for problem in rules.problems(settings, pictures: start) + rules.problems(other) {
            XCTAssertTrue(problem.localizedDescription.hasSuffix("."), "\(problem)")
        }
    }

    func testAsksForWhatTheBundleKnows() throws {
        var settings = try rules().defaults
        settings.prompt = "a cup"
        settings.negativePrompt = ""
        settings.seed = 7
        settings.strength = 0.5
        let pictures = ChosenPictures(initial: try picture(), control: try picture())
        let request = try rules().request(settings, pictures: pictures)
        XCTAssertEqual(request.prompts, ["a cup"])
        XCTAssertEqual(request.negativePrompts, [""])
        XCTAssertEqual(request.seed, 7)
        XCTAssertEqual(request.strength, 0.5)
        XCTAssertNotNil(request.initial)
        XCTAssertTrue(request.control.isEmpty)
        XCTAssertEqual(request.previews, .every(4))
        let other = try rules(BundleRecipe(guidanceEmbedding: 256, control: true, encoder: false))
        let second = other.request(settings, pictures: pictures)
        XCTAssertNil(second.negativePrompts)
        XCTAssertNil(second.initial)
        XCTAssertNil(second.strength)
        XCTAssertEqual(second.control.count, 1)
    }

    func testShowsPreviewsWhereTheyAreQuickOrChosen() throws {
        let (quick, slow) = (try rules(), try rules(BundleRecipe(parameters: 49_490_199)))
        var settings = quick.defaults
        XCTAssertEqual(quick.request(settings).previews, .every(4))
        XCTAssertEqual(quick.request(settings, reducedMemory: true).previews, .never)
        XCTAssertEqual(slow.request(settings).previews, .never)
        settings.livePreview = true
        XCTAssertEqual(slow.request(settings, reducedMemory: true).previews, .every(4))
        settings.livePreview = false
        XCTAssertEqual(quick.request(settings).previews, .never)
    }

    func testEstimatesMemory() throws {
        let folder = try temporaryFolder(self)
        let manifest = try ModelBundle(folder: BundleRecipe().write(folder)).manifest
        let advice = MemoryAdvice(manifest)
        XCTAssertEqual(advice.together, 5302)
        XCTAssertEqual(advice.largest, 5002)
        XCTAssertFalse(advice.suggestsReducedMemory(nil))
        XCTAssertFalse(advice.suggestsReducedMemory(MemoryReading(used: 1, available: nil)))
        XCTAssertFalse(advice.suggestsReducedMemory(MemoryReading(used: 1, available: 10304)))
        XCTAssertTrue(advice.suggestsReducedMemory(MemoryReading(used: 1, available: 10303)))
    }

    func testWritesBytes() {
        XCTAssertEqual(
            [0, 999, 1000, 999_500, 1_262_000_000, 150_000_000_000].map(byteText),
            ["0 bytes", "999 bytes", "1 kB", "1 MB", "1.3 GB", "150 GB"])
        XCTAssertEqual(
            MemoryReading(used: 2_000_000_000, available: 500_000_000).text,
            "2.0 GB used, 500 MB left")
        XCTAssertNotNil(MemoryReading.now())
    }

    private func rules(_ recipe: BundleRecipe = .init()) throws -> SettingsRules {
        let folder = try temporaryFolder(self)
        return SettingsRules(try ModelBundle(folder: recipe.write(folder)).manifest)
    }

    private func picture() throws -> Picture {
        try Picture(width: 1, height: 1, pixels: [1, 2, 3])
    }
}
