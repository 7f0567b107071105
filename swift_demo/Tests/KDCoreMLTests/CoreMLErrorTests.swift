import KDDiffusion
import XCTest

@testable import KDCoreML

final class CoreMLErrorTests: XCTestCase {
    func testEveryErrorIsOneSentence() {
        let errors: [CoreMLError] = [
            .unavailable, .unknownUnits("npu"), .unrecorded(model: "M"), .noModel("M"),
            .notCompiled(model: "M", reason: "No."), .notCached(model: "M", reason: "full"),
            .notLoaded(model: "M", reason: "No."), .notRun(model: "M", reason: "No."),
            .missingInput(model: "M", port: "p"), .unfitInput(model: "M", port: "p"),
            .unreadableOutput(model: "M", port: "p"),
        ]
        for error in errors {
            let text = error.localizedDescription
            XCTAssertTrue(text.hasSuffix("."), text)
            XCTAssertFalse(text.contains("CoreMLError"), text)
        }
    }

    func testUnitsHaveTheNamesOfTheManifest() {
        XCTAssertEqual(
            ComputeUnits.allCases.map(\.rawValue),
            ["all", "cpu-only", "cpu-and-gpu", "cpu-and-neural-engine"])
    }

    func testIsAvailableOnApplesSystemsOnly() {
        #if canImport(Darwin)
            XCTAssertTrue(CoreMLEngine.isAvailable)
        #else
            XCTAssertFalse(CoreMLEngine.isAvailable)
        #endif
    }

    func testPressureEndsWhereNobodyReportsIt() async {
        #if !canImport(Darwin)
            for await _ in MemoryPressure.events() { XCTFail("There was pressure.") }
        #endif
    }
}
