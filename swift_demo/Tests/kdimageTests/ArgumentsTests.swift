import Foundation
import KDCoreML
import XCTest

@testable import kdimage

final class ArgumentsTests: XCTestCase {
    func testReadsEveryOption() throws {
        let words = [
            "bundle", "--steps", "4", "a red cup", "-o", "cup.jpg", "--guidance=2.5", "--seed",
            "4294967296", "--negative", "-blurry", "--scheduler", "ddim", "--size", "512", "768",
            "--init", "a.png", "--strength", "0.5", "--control", "b.png", "--control-scale", "-1",
            "--images", "3", "--reduced-memory", "--compute-units", "cpu-and-gpu", "--previews",
            "out", "--check",
        ]
        let arguments = try Arguments(words)
        XCTAssertEqual(arguments.bundle.lastPathComponent, "bundle")
        XCTAssertEqual(arguments.prompt, "a red cup")
        XCTAssertEqual(arguments.output.lastPathComponent, "cup.jpg")
        XCTAssertEqual(arguments.steps, 4)
        XCTAssertEqual(arguments.guidance, 2.5)
        XCTAssertEqual(arguments.seed, 4_294_967_296)
        XCTAssertEqual(arguments.negative, "-blurry")
        XCTAssertEqual(arguments.scheduler, "ddim")
        XCTAssertEqual([arguments.height, arguments.width], [512, 768])
        XCTAssertEqual(arguments.initial?.lastPathComponent, "a.png")
        XCTAssertEqual(arguments.strength, 0.5)
        XCTAssertEqual(arguments.control?.lastPathComponent, "b.png")
        XCTAssertEqual(arguments.controlScale, -1)
        XCTAssertEqual(arguments.images, 3)
        XCTAssertTrue(arguments.reducedMemory && arguments.check)
        XCTAssertEqual(arguments.computeUnits, .cpuAndGPU)
        XCTAssertEqual(arguments.previews?.lastPathComponent, "out")
    }

    func testLeavesTheRestToTheBundle() throws {
        let arguments = try Arguments(["b", "--", "--steps"])
        XCTAssertEqual(arguments.prompt, "--steps")
        XCTAssertEqual(arguments.output.lastPathComponent, "image.png")
        XCTAssertNil(arguments.steps)
        XCTAssertNil(arguments.computeUnits)
        XCTAssertEqual(arguments.images, 1)
    }

    func testRefusesWhatMakesNoSense() {
        let cases: [([String], UsageError)] = [
            ([], .missing("BUNDLE")), (["b"], .missing("PROMPT")), (["b", "p", "q"], .surplus("q")),
            (["b", "p", "--speed"], .unknown("--speed")), (["b", "p", "-x"], .unknown("-x")),
            (["b", "p", "--steps"], .missingValue("--steps")),
            (["b", "p", "--size", "512"], .missingValue("--size")),
            (["b", "p", "--check=yes"], .noValue("--check")),
            (["--help=1"], .help), (["-h"], .help),
            (
                ["b", "p", "--steps", "4.5"],
                .value("--steps", "4.5", expected: "a whole number that fits")
            ),
            (
                ["b", "p", "--seed", "-1"],
                .value("--seed", "-1", expected: "a whole number that fits")
            ),
            (["b", "p", "--guidance", "x"], .value("--guidance", "x", expected: "a number")),
            (["b", "p", "-o", ""], .value("-o", "", expected: "a path")),
            (
                ["b", "p", "--compute-units", "npu"],
                .value(
                    "--compute-units", "npu",
                    expected: "one of all, cpu-only, cpu-and-gpu, cpu-and-neural-engine")
            ),
        ]
        for (words, expected) in cases {
            XCTAssertThrowsError(try Arguments(words), "\(words)") {
                XCTAssertEqual($0 as? UsageError, expected)
                XCTAssertFalse($0.localizedDescription.isEmpty)
            }
        }
    }

    func testNumbersSeveralFiles() throws {
        let folder = FileManager.default.temporaryDirectory
        let output = folder.appendingPathComponent("cup.PNG")
        XCTAssertEqual(try OutputFiles(output, images: 1).files, [output])
        XCTAssertEqual(
            try OutputFiles(output, images: 2).files.map(\.lastPathComponent),
            ["cup-0.PNG", "cup-1.PNG"])
        XCTAssertThrowsError(try OutputFiles(folder.appendingPathComponent("cup.gif"), images: 1)) {
            XCTAssertEqual($0 as? OutputError, .kind("cup.gif"))
        }
        XCTAssertThrowsError(
            try OutputFiles(folder.appendingPathComponent("none/cup.png"), images: 1)
        ) {
            XCTAssertTrue($0.localizedDescription.contains("no folder"))
        }
    }

    func testExitsWithItsStatus() async {
        let console = Console()
        let help = await Kdimage.status(["--help"], console: console)
        let wrong = await Kdimage.status(["--speed"], console: console)
        let failed = await Kdimage.status(["/no/bundle", "a cup"], console: console)
        XCTAssertEqual([help, wrong, failed], [0, 2, 1])
    }

    func testASignalCancelsTheWork() async throws {
        do {
            try await interruptible {
                // The system takes a moment to watch for signals.
                try await Task.sleep(for: .milliseconds(300))
                kill(getpid(), SIGTERM)
                try await Task.sleep(for: .seconds(20))
            }
            XCTFail("It went on.")
        } catch is CancellationError {}
    }
}
