import Foundation
import KDNumerics
import XCTest

final class ImageSamplerTests: XCTestCase {
    private func start(_ latent: String, _ outputs: String, _ fresh: String = "[]") throws
        -> ImageStart
    {
        let json = """
            {"signal": 0.25, "noise": 2, "latent": \(latent), "outputs": \(outputs),
             "fresh": \(fresh)}
            """
        return try JSONDecoder().decode(ImageStart.self, from: Data(json.utf8))
    }

    func testAStartIsTheEndOfATableWithColumnsOfItsOwn() throws {
        let full = try SamplerTests.table()
        let table = try start("[1, 0.5]", "[[7]]").table(full)
        XCTAssertEqual(table.timesteps, [499.5])
        XCTAssertEqual(table.initial, [1, 0.5])
        XCTAssertEqual(table.outputs, [[], [7]])
        XCTAssertEqual(table.noise, [[], [2]])
        XCTAssertEqual(table.draws, [1])
        XCTAssertEqual(table.scale, [0.25, 1])
        let whole = try start("[1, 2, 3]", "[[4, 5]]", "[[6, 7], [8, 9]]").table(full)
        XCTAssertEqual(whole.outputs, [[], [4], [5, 3]])
        XCTAssertEqual(whole.noise, [[], [6, 8], [7, 9, 2]])
        XCTAssertEqual(try start("[1, 0.5]", "[]").table(full).outputs, [[], [3]])
    }

    func testAStartOfAnotherScheduleIsRefused() throws {
        let full = try SamplerTests.table()
        let wrong = [
            ("[1]", "[]", "[]"), ("[]", "[]", "[]"), ("[1, 2, 3, 4]", "[]", "[]"),
            ("[1, 2]", "[[7, 8]]", "[]"), ("[1, 2]", "[[7], [8]]", "[]"),
            ("[1, 2]", "[]", "[[1, 2]]"),
        ]
        for (latent, outputs, fresh) in wrong {
            XCTAssertThrowsError(try start(latent, outputs, fresh).table(full)) { error in
                guard case .malformed = error as? SamplerError else { return XCTFail("\(error)") }
            }
        }
    }

    func testTheFirstLatentMixesPictureAndNoise() throws {
        let start = try start("[1, 0.5]", "[]")
        let noise = Tensor(shape: [2, 2], values: [1, 2, 3, 4])
        let picture = Tensor(shape: [1, 2], values: [4, 8])
        let expected = Tensor(shape: [2, 2], values: [3, 6, 7, 10])
        XCTAssertEqual(try start.firstLatent(picture: picture, noise: noise), expected)
        let both = picture.repeatingRows(2)
        XCTAssertEqual(try start.firstLatent(picture: both, noise: noise), expected)
        let three = picture.repeatingRows(3)
        XCTAssertThrowsError(try start.firstLatent(picture: three, noise: noise)) {
            XCTAssertEqual($0 as? TensorError, .shapes([3, 2], [2, 2]))
        }
    }

    func testStartsThatAreNotThereAreRefused() throws {
        let json = """
            {"name": "pndm", "starts": {"3": [
              {"signal": 1, "noise": 0, "latent": [1, 1], "outputs": [], "fresh": []}, null]}}
            """
        let sampler = try JSONDecoder().decode(ImageSampler.self, from: Data(json.utf8))
        XCTAssertEqual(try sampler.start(steps: 3, first: 0).calls, 1)
        for (steps, first) in [(3, 1), (3, 2), (3, -1), (4, 0)] {
            XCTAssertThrowsError(try sampler.start(steps: steps, first: first)) { error in
                XCTAssertEqual(
                    error.localizedDescription,
                    "The scheduler 'pndm' cannot begin at step \(first + 1) of \(steps); choose "
                        + "another strength, another number of steps or another scheduler.")
            }
        }
    }
}
