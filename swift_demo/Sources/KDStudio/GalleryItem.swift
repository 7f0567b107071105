import Foundation
import KDDiffusion

/// A picture that was drawn, with all that is needed to draw it again; stored as JSON beside it.
public struct GalleryItem: Sendable, Equatable, Codable, Identifiable {
    /// The name of its files, without the extension.
    public let id: String
    /// When it was drawn.
    public let date: Date
    /// The model, as the bundle names it.
    public let model: String
    /// What was chosen; the seed is the one that was used.
    public let settings: Settings
    /// Which of the pictures of one run it is, from 0: their noise is drawn one after the other.
    public let index: Int
    /// Whether it began with another picture or followed one, which are not stored.
    public let usedPictures: Bool

    /// Describes a picture of a finished run.
    ///
    /// - Parameters:
    ///   - plan: What was drawn.
    ///   - settings: What the user had chosen.
    ///   - model: The model's name.
    ///   - index: Which of the run's pictures it is.
    ///   - date: When it was drawn.
    init(plan: Plan, settings: Settings, model: String, index: Int, date: Date) {
        var drawn = settings
        drawn.seed = UInt32(truncatingIfNeeded: plan.seed)
        drawn.steps = plan.steps
        drawn.guidance = plan.guidance
        drawn.width = plan.size.width
        drawn.height = plan.size.height
        drawn.scheduler = plan.scheduler
        self.settings = drawn
        self.model = model
        self.index = index
        self.date = date
        usedPictures = plan.initial != nil || plan.control != nil
        id = "\(Self.stamp(date))-\(UUID().uuidString.prefix(8).lowercased())"
    }

    /// What a screen reader says of the picture.
    public var spokenDescription: String {
        "\(settings.prompt), \(settings.width) by \(settings.height) pixels, drawn by \(model)"
    }

    /// A date that sorts as text and is a file name everywhere, such as `20260131-235959`.
    private static func stamp(_ date: Date) -> String {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = TimeZone(secondsFromGMT: 0) ?? calendar.timeZone
        let fields: Set<Calendar.Component> = [.year, .month, .day, .hour, .minute, .second]
        let parts = calendar.dateComponents(fields, from: date)
        func digits(_ value: Int?, _ count: Int) -> String {
            let text = String(value ?? 0)
            return String(repeating: "0", count: max(0, count - text.count)) + text
        }
        return digits(parts.year, 4) + digits(parts.month, 2) + digits(parts.day, 2) + "-"
            + digits(parts.hour, 2) + digits(parts.minute, 2) + digits(parts.second, 2)
    }
}
