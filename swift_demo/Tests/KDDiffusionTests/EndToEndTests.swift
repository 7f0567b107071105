import Foundation
import KDNumerics
import XCTest

@testable import KDDiffusion

/// Whole bundles: what Swift draws beside what Python drew.
final class EndToEndTests: XCTestCase {
    /// The largest difference of a value of a pixel that is allowed, of 255: the last bit of a
    /// logarithm may be another one.
    private static let allowed = 1

    func testEveryCase() async throws {
        let (folder, engine) = try connect()
        let data = try Data(contentsOf: folder.appendingPathComponent("cases.json"))
        let cases = try JSONDecoder().decode([Case].self, from: data)
        XCTAssertFalse(cases.isEmpty)
        for bundle in Set(cases.map(\.bundle)).sorted() {
            let pipeline = try DiffusionPipeline(
                bundle: try ModelBundle(folder: folder.appendingPathComponent(bundle)),
                engine: engine)
            for each in cases where each.bundle == bundle {
                try await compare(each, pipeline, folder)
            }
            await pipeline.unload()
        }
    }

    func testReducedMemoryAndPreviewsChangeNothing() async throws {
        let (folder, engine) = try connect()
        let data = try Data(contentsOf: folder.appendingPathComponent("cases.json"))
        let first = try XCTUnwrap(JSONDecoder().decode([Case].self, from: data).first)
        let bundle = try ModelBundle(folder: folder.appendingPathComponent(first.bundle))
        try bundle.verify()
        var request = try first.request(in: folder)
        request.previews = .every(2)
        let pipeline = try DiffusionPipeline(
            bundle: bundle, engine: engine, options: PipelineOptions(reducedMemory: true))
        let outcome = try await pipeline.outcome(of: request)
        XCTAssertEqual(outcome.pictures, try expected(first, folder))
        XCTAssertNotNil(outcome.steps[1].preview)
    }

    func testAnEngineThatIsGoneIsAnErrorNotAWait() async throws {
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("pipes-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        addTeardownBlock { try? FileManager.default.removeItem(at: folder) }
        for name in ["requests", "replies"] {
            mkfifo(folder.appendingPathComponent(name).path, 0o600)
        }
        let reader = open(folder.appendingPathComponent("requests").path, O_RDONLY | O_NONBLOCK)
        let pipes = try Pipes(folder: folder, patience: 1)
        XCTAssertThrowsError(try pipes.readLine())
        let writer = open(folder.appendingPathComponent("replies").path, O_WRONLY | O_NONBLOCK)
        close(writer)
        XCTAssertThrowsError(try pipes.readLine())
        close(reader)
        XCTAssertThrowsError(try pipes.write([1]))
    }

    private func compare(
        _ each: Case, _ pipeline: DiffusionPipeline, _ folder: URL
    ) async throws {
        let pictures = try await pipeline.outcome(of: try each.request(in: folder)).pictures
        let references = try expected(each, folder)
        XCTAssertEqual(pictures.count, references.count, each.name)
        var (largest, pixels) = (0, 0)
        for (index, (drawn, reference)) in zip(pictures, references).enumerated() {
            let name = "swift/\(each.name)-\(index).ppm"
            try write(drawn, to: folder.appendingPathComponent(name))
            XCTAssertEqual(drawn.width, reference.width, each.name)
            XCTAssertEqual(drawn.height, reference.height, each.name)
            let differences = zip(drawn.pixels, reference.pixels).map { abs(Int($0) - Int($1)) }
            largest = max(largest, differences.max() ?? 0)
            pixels +=
                stride(from: 0, to: differences.count - 2, by: 3).filter {
                    differences[$0..<($0 + 3)].contains { $0 > 0 }
                }.count
        }
        print("case \(each.name): largest difference \(largest) of 255, \(pixels) pixels differ")
        XCTAssertLessThanOrEqual(largest, Self.allowed, each.name)
    }

    private func expected(_ each: Case, _ folder: URL) throws -> [Picture] {
        try each.pictures.map { try picture(folder.appendingPathComponent($0)) }
    }

    /// The folder of the cases and what runs their models.
    private func connect() throws -> (URL, EvaluatorEngine) {
        let environment = ProcessInfo.processInfo.environment
        guard let cases = environment["KD_CASES"], let pipes = environment["KD_EVALUATOR"] else {
            throw XCTSkip(
                "There are no cases: scripts/swift_test makes them and sets KD_CASES and "
                    + "KD_EVALUATOR.")
        }
        let folder = URL(fileURLWithPath: cases)
        return (folder, try EvaluatorEngine(folder: URL(fileURLWithPath: pipes), root: folder))
    }
}
